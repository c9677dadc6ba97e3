# The Mandelbrot set: awk has only floats.
BEGIN {
    for (row = 0; row < size; row++)
        for (column = 0; column < size; column++) {
            a = 2 * column / size - 1.5; b = 2 * row / size - 1; x = y = 0
            for (step = 0; step < 50 && x * x + y * y < 4; step++) { t = x * x - y * y + a; y = 2 * x * y + b; x = t }
            sum = (sum * 31 + step) % 65521
        }
    print sum
}
