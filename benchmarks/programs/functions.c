/* The mathematical functions of the C library, as WHETSTONE calls them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words) {
    double sum = 0, x = 0.5;
    for (int n = atoi(words[count - 1]); n > 0; n--) {
        x = atan(2 * sin(x) * cos(x) / (cos(x + 0.3) + cos(x - 0.3) - 0.1));
        sum += sqrt(exp(log(fabs(x) + 0.1) / 1.1)) + pow(fabs(x) + 0.5, 1.7) + fmod(sum, 3);
    }
    printf("%.9f\n", sum);
    return 0;
}
