"""Classes, method calls, dictionaries, lists: a work shop's parts go from bench to bench until they are done."""

import sys


class Part:
    def __init__(self, number: int) -> None:
        self.number, self.marks = number, []


class Bench:
    def __init__(self, name: str) -> None:
        self.name, self.queue, self.done = name, [], 0

    def take(self, part: Part) -> None:
        self.queue.append(part)

    def work(self, benches: dict[str, "Bench"]) -> None:
        queue, self.queue = self.queue, []
        for part in queue:
            part.marks.append(self.name)
            self.done += 1
            part.number = (part.number * 1103515245 + 12345) & 0x7FFFFFFF
            benches[f"bench{part.number >> 16 & 7}"].take(part)


benches = {f"bench{i}": Bench(f"bench{i}") for i in range(8)}
for number in range(200):
    benches[f"bench{number % 8}"].take(Part(number))
for _ in range(int(sys.argv[1])):
    for bench in list(benches.values()):
        bench.work(benches)
words = sorted((bench.done, name) for name, bench in benches.items())
print(" ".join(f"{name}:{done}" for done, name in words))
