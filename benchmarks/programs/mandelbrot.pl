# The Mandelbrot set in the interpreter's floats.
use strict;
my ($size, $sum) = ($ARGV[0], 0);
for my $row (0 .. $size - 1) {
    for my $column (0 .. $size - 1) {
        my ($a, $b, $x, $y, $step) = (2 * $column / $size - 1.5, 2 * $row / $size - 1, 0, 0, 0);
        while ($step < 50 && $x * $x + $y * $y < 4) {
            ($x, $y) = ($x * $x - $y * $y + $a, 2 * $x * $y + $b);
            $step++;
        }
        $sum = ($sum * 31 + $step) % 65521;
    }
}
print "$sum\n";
