# Real mode: addresses that wrap, interrupts through the table, decimal arithmetic, 32-bit operands, big real mode, and back.
# QEMU differs: "word at FFFF", "from FFFF to 10000", "an instruction over FFFF", "done before it"
        .include "protected.inc"
        .include "real.inc"
        .macro expect vector, name
        movw $9f, resume16
        movw %sp, stack16
        movw $caught, 4 * \vector
        movw $0, 4 * \vector + 2
        out16 "\name: "
        .endm
        .macro done16
        out16 "ok\n"
9:
        .endm
real:   out16 "real mode\n"
        movw $0x1234, %ax
        movw $0x4321, %bx
        mulw %bx
        hex16 %dx
        hex16 %ax
        movw $0x99, %ax
        addb $0x01, %al
        daa
        hex16 %ax
        movw $0x0105, %ax
        subb $0x07, %al
        das
        hex16 %ax
        movw $0x0305, %ax
        addb $0x08, %al
        aaa
        hex16 %ax
        movw $0x63, %ax
        aam
        hex16 %ax
        aad
        hex16 %ax
        out16 " arithmetic\n"
        movw $0x1000, %ax               # an offset wraps at 64 KiB
        movw %ax, %es
        movb $0x5A, %es:1
        movw $0xFFFF, %bx
        movw $2, %si
        movb %es:(%bx,%si), %al
        hex16 %ax
        movw $0xFFFF, %ax               # FFFF:0010 is 100000h with A20 on
        movw %ax, %es
        movw %es:0x10, %ax
        movw %es:0x12, %bx
        hex16 %ax
        hex16 %bx
        out16 " wrap and high memory\n"
        movw $0x2000, %ax               # the stack pointer wraps
        movw %sp, %di
        movw %ss, %si
        movw %ax, %ss
        xorw %sp, %sp
        pushw $0xBEEF
        movw %sp, %cx
        movw %si, %ss
        movw %di, %sp
        movw %ax, %es
        movw %es:0xFFFE, %ax
        hex16 %cx
        hex16 %ax
        out16 " stack\n"
        movw $handler, 4 * 0x21
        movw $0, 4 * 0x21 + 2
        stc
        sti
        movw $0x7777, %ax
        int $0x21
        cli
        hex16 %ax
        out16 " int 21h\n"
        expect 0, "divide overflow"
        movw $0x100, %ax
        movb $1, %cl
        divb %cl
        done16
        expect 5, "bound"
        movw $3, %ax
        boundw %ax, limits
        done16
        expect 6, "ud2"
        ud2
        done16
        expect 6, "lldt in real mode"
        lldt %ax
        done16
        expect 6, "vex in real mode"
        .byte 0xC4, 0xE2, 0x78, 0xF2, 0xC1
        done16
        movw $0x3000, %ax               # code at a segment's end, and a jump behind it where nobody stops
        movw %ax, %es
        movl $0x40404040, %es:0xFFFC
        movw $0x4000, %ax
        movw %ax, %fs
        movl $0xEA909090, %fs:0
        movl $ran_over, %fs:4
        movl $0xEA909090, %es:0
        movl $ran_over, %es:4
        xorw %ax, %ax
        expect 13, "from FFFF to 10000"
        ljmp $0x3000, $0xFFFC
9:      out16 "done before FFFF: "
        hex16 %ax
        out16 "\n"
        movb $0x05, %es:0xFFFE          # ADD AX, imm16
        xorw %ax, %ax
        expect 13, "an instruction over FFFF"
        ljmp $0x3000, $0xFFFC
9:      out16 "done before it: "
        hex16 %ax
        out16 "\n"
        expect 13, "word at FFFF"
        movw $0xFFFF, %bx
        movw (%bx), %ax
        done16
        expect 4, "into"
        movb $0x7F, %al
        incb %al
        into
        done16
        movl $0x89ABCDEF, %eax          # 32-bit operands and addresses
        movl $0x7000, %ebx
        movl %eax, (%ebx)
        bswapl %eax
        movw (%ebx), %cx
        hex16 %ax
        hex16 %cx
        pushl $0x11112222
        popw %ax
        popw %bx
        hex16 %ax
        hex16 %bx
        smsw %ax
        andw $1, %ax
        hex16 %ax
        out16 " 32-bit operands\n"
        lgdtl low_gdtr                  # big real mode: limits survive the way back
        movl %cr0, %eax
        orb $1, %al
        movl %eax, %cr0
        jmp 1f
1:      movw $DATA32, %bx
        movw %bx, %ds
        andb $~1, %al
        movl %eax, %cr0
        xorw %ax, %ax
        movw %ax, %ds
        movl $0x300000, %ebx
        movl $0x600DF00D, (%ebx)
        movl (%ebx), %eax
        hex16 %ax
        out16 " big real mode\n"
        movw $5, %cx                    # LOOP, JCXZ, string wrap in SI
        xorw %ax, %ax
1:      addw %cx, %ax
        loop 1b
        hex16 %ax
        jcxz 1f
        out16 "not zero"
1:      out16 " loop\n"
        lcall $0x600, $far_here - 0x6000
        movl %cr0, %eax                 # back to protected mode
        orb $1, %al
        movl %eax, %cr0
        ljmpl $CODE32, $protected
far_here: movw %cs, %ax
        hex16 %ax
        .byte 0xE8, 0, 0                # call to the next instruction: its address
        popw %ax
        subw $. - 1 - 0x6000, %ax
        hex16 %ax
        lret
handler: pushw %bp
        movw %sp, %bp
        movw 6(%bp), %bx                # FLAGS as pushed
        andw $0x201, %bx
        hex16 %bx
        pushf
        popw %bx
        andw $0x301, %bx
        hex16 %bx
        incw %ax
        popw %bp
        iret
caught: out16 "caught\n"
        movw %cs:stack16, %sp
        xorw %bx, %bx
        movw %bx, %ds
        jmp *%cs:resume16
ran_over: out16 "ran over\n"
        movw %cs:stack16, %sp
        jmp *%cs:resume16
resume16: .word 0
stack16: .word 0
limits: .word 5, 9
low_gdtr: .word gdt_end - gdt - 1
        .long gdt
        .text
        .code32
protected: movw $DATA32, %ax
        movw %ax, %ds
        movw %ax, %ss
        movl $stack_top, %esp
        print "protected again\n"
        exit
