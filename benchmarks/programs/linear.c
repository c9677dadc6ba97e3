/* Systems of linear equations by elimination with pivots, as LINPACK measures: streams of doubles through memory. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define N 300
static double a[N][N], b[N];

static void solve(void) {
    for (int k = 0; k < N; k++) {
        int pivot = k;
        for (int i = k + 1; i < N; i++)
            if (fabs(a[i][k]) > fabs(a[pivot][k]))
                pivot = i;
        for (int j = 0; j < N; j++) {
            double t = a[k][j];
            a[k][j] = a[pivot][j];
            a[pivot][j] = t;
        }
        double t = b[k];
        b[k] = b[pivot];
        b[pivot] = t;
        for (int i = k + 1; i < N; i++) {
            double factor = a[i][k] / a[k][k];
            for (int j = k; j < N; j++)
                a[i][j] -= factor * a[k][j];
            b[i] -= factor * b[k];
        }
    }
    for (int i = N - 1; i >= 0; i--) {
        for (int j = i + 1; j < N; j++)
            b[i] -= a[i][j] * b[j];
        b[i] /= a[i][i];
    }
}

int main(int count, char **words) {
    unsigned seed = 1;
    double sum = 0;
    for (int n = atoi(words[count - 1]); n > 0; n--) {
        for (int i = 0; i < N; i++) {
            b[i] = 0;
            for (int j = 0; j < N; j++) {
                seed = seed * 1103515245 + 12345;
                a[i][j] = (seed >> 8) / 16777216.0 - 0.5;
                b[i] += a[i][j];
            }
        }
        solve();
        for (int i = 0; i < N; i++)
            sum += b[i];
    }
    printf("%.3f\n", sum);
    return 0;
}
