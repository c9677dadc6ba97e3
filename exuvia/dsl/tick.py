"""The tick: the one interrupt of a processor that native code raises, delivers and ends without Python, that of its own timer.

An operating system's timer rings some hundred times a second, and each time its handler acknowledges the interrupt, sets the timer anew and
ends the interrupt. The interrupt controller *lends* the processor this one interrupt while nothing else is pending or active there. Native
code then does with the words below what the controller would do; who wants anything else takes the tick back first.

    tick_at      virtual time in ns at which the timer rings, `NEVER` for not at all; also while the tick is not lent
    tick_period  ns after which it rings again, 0 where it has to be set anew
    tick_line    1 while the timer's output is high; of an edge, 1 from when it rang until it is delivered
    tick_state   one of those below
    tick_number  what names it: an INTID, a vector
    tick_none    what an acknowledgement finds where nothing is pending
    tick_ack     guest-physical address of the register by which it is acknowledged, all ones where that is an instruction
    tick_end     and ended
    tick_mask    the bits of what is written there that must be those of the number
    tick_arm     address of the register that sets the timer
    tick_scale   ns for each count of what is written there, 0 where Python has to look
    tick_count   what was written there last while the tick is lent, at `tick_loaded` (ns), if `tick_armed` is 1

`Layout.routines` has "interrupt" where an architecture takes part: the text that delivers a pending tick if it is welcome at `pc`.
"""

AWAY, IDLE, PENDING, ACTIVE = 0, 1, 2, 4
NEVER = (1 << 63) - 1  # ns
WORDS = """tick_at tick_period tick_line tick_state tick_number tick_none tick_ack tick_end tick_mask
    tick_arm tick_scale tick_count tick_loaded tick_armed"""
