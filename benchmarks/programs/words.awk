# Words of a text counted by length and by first letter.
{ for (i = 1; i <= NF; i++) { count[$i]++; length_of[length($i)]++; if ($i ~ /^[A-Z][a-z]+/) names++ } gsub(/[aeiou]/, "."); dots += length($0) }
END { for (word in count) if (count[word] > most) most = count[word]; print NR, most, names, dots, length_of[5] }
