-- A table filled, indexed, joined with itself.
CREATE TABLE part (id INTEGER PRIMARY KEY, name TEXT, weight INTEGER, whole INTEGER);
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80000)
INSERT INTO part SELECT i, printf('part-%05d-%x', i, i * 7919), i * 2654435761 % 1000, i / 7 FROM n;
CREATE INDEX by_weight ON part (weight, name);
SELECT count(*), sum(a.weight - b.weight), max(a.name) FROM part a JOIN part b ON a.whole = b.id WHERE a.name LIKE '%7a%';
SELECT weight, count(*), group_concat(substr(name, 6, 5)) FROM part WHERE weight BETWEEN 100 AND 103 GROUP BY weight;
UPDATE part SET name = replace(name, 'part', 'piece') WHERE weight % 3 = 1;
SELECT count(DISTINCT substr(name, 1, 9)) FROM part;
