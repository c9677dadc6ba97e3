# Nothing: what starting and stopping costs.
        .include "prelude.inc"
loops:  finish 0
