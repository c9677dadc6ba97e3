# What reaches devices: ports in all sizes and in strings, memory-mapped registers by all kinds of instructions, and where nothing is.
# QEMU differs: "8086A201009896800000FFFF memory-mapped", "FFFFFFFFFFFFFFFF where nothing is"
        .include "protected.inc"
        .set HPET, 0xFED00000
        .set IOAPIC, 0xFEC00000
        .set NOTHING, 0xFEB00000
main:   movl $text, %esi
        movl $text_end - text, %ecx
        movw $0xE9, %dx
        rep outsb
        movl $0x80000000, %eax          # the host bridge's vendor and device, whole and in parts
        movw $0xCF8, %dx
        outl %eax, %dx
        inl %dx, %eax
        hex %eax
        movw $0xCFC, %dx
        inl %dx, %eax
        hex %eax
        xorl %eax, %eax
        inw %dx, %ax
        hex %eax
        movw $0xCFE, %dx
        xorl %eax, %eax
        inw %dx, %ax
        hex %eax
        movw $0xCFD, %dx
        xorl %eax, %eax
        inb %dx, %al
        hex %eax
        print " ports\n"
        movl $buffer, %edi
        movw $0xCFC, %dx
        movl $3, %ecx
        rep insl
        movl $5, %ecx
        movw $0xCFC, %dx
        rep insb
        hex buffer
        hex buffer + 8
        hex buffer + 13
        print " strings\n"
        movl $-1, %eax                  # nobody answers
        movw $0x1234, %dx
        inb %dx, %al
        hex %eax
        inl %dx, %eax
        hex %eax
        print " where no port is\n"

        hex HPET                        # revision, vendor
        hex HPET + 4                    # its period
        movzwl HPET + 2, %eax
        hex %eax
        print " memory-mapped\n"
        movl $0, HPET + 0xF0            # its counter stands
        movl $0x11223344, HPET + 0xF4
        movl $0xFFFF0000, HPET + 0xF0
        orl $0x1234, HPET + 0xF0
        addl $0xF000, HPET + 0xF0
        xorl %eax, %eax
        xchgl %eax, HPET + 0xF0
        hex %eax
        hex HPET + 0xF0
        hex HPET + 0xF4
        notl HPET + 0xF4
        hex HPET + 0xF4
        testl $1 << 31, HPET + 0xF4
        setnz %al
        movzbl %al, %eax
        hex %eax
        print " read, changed, written\n"
        movl $0x01020304, HPET + 0xF0
        movl $HPET + 0xF0, %esi
        movl $buffer, %edi
        movsl
        movl $HPET + 0xF4, %esi
        movl $1, %ecx
        rep movsl
        hex buffer
        hex buffer + 4
        movl $buffer + 4, %esi
        movl $HPET + 0xF0, %edi
        movsl
        hex HPET + 0xF0
        movl $0x55667788, %eax
        movl $HPET + 0xF0, %edi
        stosl
        movl $HPET + 0xF0, %esi
        lodsl
        hex %eax
        pushl HPET + 0xF0
        popl %eax
        hex %eax
        cmpl %eax, HPET + 0xF0
        sete %al
        movzbl %al, %eax
        hex %eax
        print " moved\n"
        movl $1, IOAPIC
        movl IOAPIC + 16, %eax
        andl $0xFF0000, %eax            # the number of its inputs; versions differ
        hex %eax
        movb $0x10, IOAPIC
        movl IOAPIC + 16, %eax
        hex %eax
        print " I/O APIC\n"
        hex NOTHING
        movl $0x12345678, NOTHING
        hex NOTHING
        print " where nothing is\n"
        exit
        .data
text:   .ascii "devices, said by rep outsb\n"
text_end:
        .bss
buffer: .skip 32
