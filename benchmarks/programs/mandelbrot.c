/* A picture of the Mandelbrot set: doubles that stay in registers. */
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words) {
    int size = atoi(words[count - 1]);
    unsigned sum = 0;
    for (int row = 0; row < size; row++) {
        for (int column = 0; column < size; column++) {
            double a = 2.0 * column / size - 1.5, b = 2.0 * row / size - 1.0, x = 0, y = 0;
            int step = 0;
            for (; step < 100 && x * x + y * y < 4; step++) {
                double next = x * x - y * y + a;
                y = 2 * x * y + b;
                x = next;
            }
            sum = sum * 31 + step;
        }
    }
    printf("%08x\n", sum);
    return 0;
}
