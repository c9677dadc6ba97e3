/* Five bodies under gravity: doubles, square roots, short loops. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct body { double x[3], v[3], mass; };

static struct body bodies[5] = {
    {{0, 0, 0}, {0, 0, 0}, 39.5},
    {{4.8, -1.2, -0.1}, {0.6, 2.8, -0.02}, 0.038},
    {{8.3, 4.1, -0.4}, {-1.0, 1.8, 0.008}, 0.011},
    {{12.9, -15.1, -0.2}, {1.1, 0.9, -0.01}, 0.0017},
    {{15.4, -25.9, 0.2}, {1.0, 0.6, -0.03}, 0.002},
};

static void advance(double step) {
    for (int i = 0; i < 5; i++) {
        for (int j = i + 1; j < 5; j++) {
            double d[3], square = 0;
            for (int k = 0; k < 3; k++) {
                d[k] = bodies[i].x[k] - bodies[j].x[k];
                square += d[k] * d[k];
            }
            double pull = step / (square * sqrt(square));
            for (int k = 0; k < 3; k++) {
                bodies[i].v[k] -= d[k] * bodies[j].mass * pull;
                bodies[j].v[k] += d[k] * bodies[i].mass * pull;
            }
        }
    }
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 3; k++)
            bodies[i].x[k] += step * bodies[i].v[k];
}

int main(int count, char **words) {
    for (int n = atoi(words[count - 1]); n > 0; n--)
        advance(0.001);
    for (int i = 0; i < 5; i++)
        printf("%.15g %.15g %.15g\n", bodies[i].x[0], bodies[i].x[1], bodies[i].x[2]);
    return 0;
}
