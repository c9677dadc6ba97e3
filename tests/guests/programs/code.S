# Self-modifying code: another page, the same page, the next instruction, the running instruction's own tail, across a page's end; aliases; DMA-like copies.
# kvm-pvm cannot: has no paging outside of long mode
        .include "protected.inc"
        .include "irq.inc"
main:   movb $0xB8, 0x500000            # mov $imm, %eax ; ret
        movb $0xC3, 0x500005
        xorl %esi, %esi
        xorl %ecx, %ecx
1:      movl %ecx, 0x500001             # another page, run each time
        movl $0x500000, %edx
        call *%edx
        addl %eax, %esi
        incl %ecx
        cmpl $1000, %ecx
        jb 1b
        hex %esi
        print " another page\n"
        xorl %esi, %esi
        movl $1000, %ecx
2:      movl %ecx, 3f + 1               # the same page, a few instructions ahead
        nop
        nop
        jmp 3f
3:      movl $0, %eax
        addl %eax, %esi
        loop 2b
        hex %esi
        print " same page\n"
        xorl %esi, %esi
        movl $1000, %ecx
4:      movb %cl, 5f + 1                # the next instruction
5:      movb $0, %al
        movzbl %al, %eax
        addl %eax, %esi
        loop 4b
        hex %esi
        print " next instruction\n"
        movl $0x4000, %ecx              # a loop that was hot, then changes
        xorl %eax, %eax
6:      incl %eax
        cmpl $0x2000, %ecx
        jne 7f
        movb $0x48, 6b                  # incl becomes decl
7:      loop 6b
        hex %eax
        print " hot loop\n"
        movl $9f, %edi                  # REP STOSB over what follows it: the rest of it is already running
        movb $0x40, %al                 # inc eax
        movl $9f + 8, %ebx
        movl $8, %ecx
        movl $0, %edx
        rep stosb
        xorl %eax, %eax
9:      .fill 8, 1, 0x90
        hex %eax
        print " written by rep\n"
        movl $0x501FFE, %edi            # an instruction across two pages, each half changed
        movb $0xB8, (%edi)
        movl $0x11111111, 1(%edi)
        movb $0xC3, 5(%edi)
        call *%edi
        hex %eax
        movb $0x22, 1(%edi)
        call *%edi
        hex %eax
        movb $0x33, 4(%edi)
        call *%edi
        hex %eax
        print " across pages\n"
        movl $0x503000, %edi            # two routines that overlap in one page, data beside code
        movb $0xB8, (%edi)
        movl $0, 1(%edi)
        movb $0xC3, 5(%edi)
        xorl %esi, %esi
        movl $10000, %ecx
1:      incl 64(%edi)                   # a counter in the code's page
        call *%edi
        addl 64(%edi), %eax
        loop 1b
        hex %eax
        print " data beside code\n"
        movl $0x400000, %edi            # aliases: two linear addresses, one page
        xorl %eax, %eax
        movl $2048, %ecx
        rep stosl
        movl $0x83, 0x400000
        movl $0x400083, 0x400004
        movl $0x400083, 0x400008        # 800000h is 400000h
        change %cr4, 0, 0x10
        movl $0x400000, %eax
        movl %eax, %cr3
        change %cr0, 0, 0x80000000
        movl $0x510000, %edi
        movb $0xB8, (%edi)
        movb $0xC3, 5(%edi)
        movl $0x1111, 1(%edi)
        call *%edi
        hex %eax
        movl $0x2222, 0x910001          # through the alias
        call *%edi
        hex %eax
        movl $0x910000, %edx
        movl $0x3333, 1(%edi)
        call *%edx
        hex %eax
        print " aliases\n"
        movl $0x520000, %edi            # the page under a linear address changes, its code does not
        movb $0xB8, (%edi)
        movl $0xAAAA, 1(%edi)
        movb $0xC3, 5(%edi)
        movb $0xB8, 0x920000 - 0x400000 + 0x1000
        movl $0xBBBB, 0x920001 - 0x400000 + 0x1000
        movb $0xC3, 0x920005 - 0x400000 + 0x1000
        movl $0x405003, 0x40000C        # C00000h: a table
        movl $0x520003, 0x405000
        movl $0xC00000, %edx
        invlpg (%edx)
        call *%edx
        hex %eax
        movl $0x521003, 0x405000
        invlpg (%edx)
        call *%edx
        hex %eax
        print " remapped\n"
        exit
