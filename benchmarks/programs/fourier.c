/* Fast Fourier transforms there and back over 2^16 complex numbers: strided memory, sines and cosines. */
#include <complex.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SIZE (1 << 16)
static double complex data[SIZE], roots[SIZE / 2];

static void transform(int back) {
    for (unsigned i = 0, j = 0; i < SIZE; i++) {
        if (i < j) {
            double complex t = data[i];
            data[i] = data[j];
            data[j] = t;
        }
        unsigned bit = SIZE >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j |= bit;
    }
    for (int half = 1; half < SIZE; half *= 2)
        for (int start = 0; start < SIZE; start += 2 * half)
            for (int k = 0; k < half; k++) {
                double complex root = roots[k * (SIZE / 2 / half)];
                double re = creal(root), im = back ? -cimag(root) : cimag(root);
                double complex odd = data[start + half + k], even = data[start + k];
                double complex turned = CMPLX(creal(odd) * re - cimag(odd) * im, creal(odd) * im + cimag(odd) * re);
                data[start + k] = even + turned;
                data[start + half + k] = even - turned;
            }
}

int main(int count, char **words) {
    for (int i = 0; i < SIZE / 2; i++)
        roots[i] = CMPLX(cos(-2 * M_PI * i / SIZE), sin(-2 * M_PI * i / SIZE));
    for (int i = 0; i < SIZE; i++)
        data[i] = CMPLX(sin(i * 0.01) + i % 17, 0);
    for (int n = atoi(words[count - 1]); n > 0; n--) {
        transform(0);
        transform(1);
        for (int i = 0; i < SIZE; i++)
            data[i] /= SIZE;
    }
    printf("%.9f %.9f\n", creal(data[1]), creal(data[SIZE - 1]));
    return 0;
}
