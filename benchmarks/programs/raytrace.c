/* Spheres that mirror each other: single-precision vectors by value, square roots, recursion, branches. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct { float x, y, z; } vector;
struct sphere { vector centre; float radius, shine; };

#define SPHERES 20
static struct sphere spheres[SPHERES];

static vector add(vector a, vector b) { return (vector){a.x + b.x, a.y + b.y, a.z + b.z}; }
static vector scale(vector a, float f) { return (vector){a.x * f, a.y * f, a.z * f}; }
static float dot(vector a, vector b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static vector unit(vector a) { return scale(a, 1 / sqrtf(dot(a, a))); }

static float trace(vector from, vector direction, int depth) {
    const struct sphere *hit = NULL;
    float nearest = 1e9f;
    for (int i = 0; i < SPHERES; i++) {
        vector to = add(spheres[i].centre, scale(from, -1));
        float along = dot(to, direction), root = along * along - dot(to, to) + spheres[i].radius * spheres[i].radius;
        if (root > 0 && along - sqrtf(root) > 1e-3f && along - sqrtf(root) < nearest) {
            nearest = along - sqrtf(root);
            hit = &spheres[i];
        }
    }
    if (!hit)
        return direction.y > 0 ? direction.y : 0;
    vector at = add(from, scale(direction, nearest)), normal = unit(add(at, scale(hit->centre, -1)));
    float light = fmaxf(0, dot(normal, unit((vector){1, 2, -1})));
    if (depth == 0)
        return light;
    return light * (1 - hit->shine) + hit->shine * trace(at, unit(add(direction, scale(normal, -2 * dot(direction, normal)))), depth - 1);
}

int main(int count, char **words) {
    int size = atoi(words[count - 1]);
    double sum = 0;
    for (int i = 0; i < SPHERES; i++)
        spheres[i] = (struct sphere){{i % 5 - 2, i / 5 - 1.5f, 5 + i % 3}, 0.45f, 0.3f + i * 0.02f};
    for (int row = 0; row < size; row++)
        for (int column = 0; column < size; column++)
            sum += trace((vector){0, 0, 0}, unit((vector){2.0f * column / size - 1, 1 - 2.0f * row / size, 1.5f}), 4);
    printf("%.3f\n", sum);
    return 0;
}
