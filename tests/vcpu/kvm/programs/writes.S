# Protected mode: writes to some pages.
        .include "protected.inc"
main:   movb $1, 0x800000
        movl $0x12345678, 0x802FFE      # two pages
        movl $0xA00000, %edi
        movl $0x800, %ecx
        xorl %eax, %eax
        rep stosl
        movl 0xB00000, %eax             # read only
        exit
