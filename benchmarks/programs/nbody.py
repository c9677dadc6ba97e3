"""Bodies under gravity, in the interpreter's floats."""

import math
import sys

bodies = [[i * 3.0 - 4, (i * 7 % 5) - 2.0, (i * 3 % 4) - 1.0, 0.1 * i, -0.05 * i, 0.02, 1.0 / (i + 1)] for i in range(5)]
pairs = [(a, b) for n, a in enumerate(bodies) for b in bodies[n + 1 :]]
for _ in range(int(sys.argv[1])):
    for a, b in pairs:
        dx, dy, dz = a[0] - b[0], a[1] - b[1], a[2] - b[2]
        square = dx * dx + dy * dy + dz * dz + 0.01
        pull = 0.001 / (square * math.sqrt(square))
        a[3] -= dx * b[6] * pull
        a[4] -= dy * b[6] * pull
        a[5] -= dz * b[6] * pull
        b[3] += dx * a[6] * pull
        b[4] += dy * a[6] * pull
        b[5] += dz * a[6] * pull
    for body in bodies:
        body[0] += 0.001 * body[3]
        body[1] += 0.001 * body[4]
        body[2] += 0.001 * body[5]
print(" ".join(f"{value:.12f}" for body in bodies for value in body[:3]))
