# Words of a text counted, patterns replaced, sorted by how often.
use strict;
my ($rounds, $file) = @ARGV;
open(my $in, '<', $file) or die;
my @lines = <$in>;
my (%seen, $changed);
for (1 .. $rounds) {
    for my $line (@lines) {
        my $copy = $line;
        $seen{lc $_}++ for $copy =~ /[A-Za-z_]\w+/g;
        $changed += $copy =~ s/(\w+)\.(\w+)\(/$2->$1(/g;
        $changed += join('-', reverse split /,\s*/, $copy) =~ tr/aeiou//;
    }
}
my @most = sort { $seen{$b} <=> $seen{$a} || $a cmp $b } keys %seen;
print "$changed @most[0..9]\n";
