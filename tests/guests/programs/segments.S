# Segment loads, types, limits, presence: 13, 12 and 11 with their error codes (SDM vol. 3, 5.3 to 5.6, 6.15).
# kvm-pvm differs: "push below a limit"
# QEMU differs: "read past its limit", "read far past its limit", "write past its limit", "write it", "read below its limit"
# QEMU differs: "read at its limit", "read through null", "write to code", "push past a limit", "push around zero"
# QEMU differs: "read past a stack limit", "read past a limit by EBP"
        .include "protected.inc"
        .include "user.inc"
        .set SMALL, SPARE               # limit FFh
        .set READ_ONLY, SPARE + 8
        .set DOWN, SPARE + 16           # expand-down, valid from 1000h
        .set ABSENT, SPARE + 24
        .set EXECUTE_ONLY, SPARE + 32
        .set CONFORMING, SPARE + 40
        .set RING3, SPARE + 48
        .set SMALL_CODE, SPARE + 56
main:   descriptor SMALL, 0x200000, 0xFF, 0x92, 4
        descriptor READ_ONLY, 0x200000, 0xFFFF, 0x90, 4
        descriptor DOWN, 0x200000, 0xFFF, 0x96, 4
        descriptor ABSENT, 0x200000, 0xFFFF, 0x12, 4
        descriptor EXECUTE_ONLY, 0, 0xFFFFF, 0x98, 12
        descriptor CONFORMING, 0, 0xFFFFF, 0x9E, 12
        descriptor RING3, 0, 0xFFFFF, 0xF2, 12
        descriptor SMALL_CODE, 0x100000, 0xFFF, 0x9A, 4
        movl $0x11223344, 0x2000FC
        movl $0x55667788, 0x201000
        try "load small"; movw $SMALL, %ax; movw %ax, %fs; done
        try "read its last dword"; movl %fs:0xFC, %eax; hex %eax; print " "; done
        try "read past its limit"; movl %fs:0xFD, %eax; done
        try "read far past its limit"; movw $SMALL, %cx; movw %cx, %fs; movb %fs:0x1000, %al; done
        try "write past its limit"; movw $SMALL, %cx; movw %cx, %fs; movb %al, %fs:0x100; done
        try "load read-only"; movw $READ_ONLY, %ax; movw %ax, %fs; done
        try "read it"; movl %fs:0xFC, %eax; done
        try "write it"; movl %eax, %fs:0xFC; done
        try "load expand-down"; movw $DOWN, %ax; movw %ax, %fs; done
        try "read below its limit"; movl %fs:0xFC, %eax; done
        try "read at its limit"; movw $DOWN, %cx; movw %cx, %fs; movb %fs:0xFFF, %al; done
        try "read above its limit"; movw $DOWN, %cx; movw %cx, %fs; movl %fs:0x1000, %eax; hex %eax; print " "; done
        try "load absent"; movw $ABSENT, %ax; movw %ax, %fs; done
        try "load absent stack"; movw $ABSENT, %ax; movw %ax, %ss; done
        try "load null"; xorl %eax, %eax; movw %ax, %fs; done
        try "read through null"; movl %fs:0, %eax; done
        try "load null stack"; xorl %eax, %eax; movw %ax, %ss; done
        try "load read-only stack"; movw $READ_ONLY, %ax; movw %ax, %ss; done
        try "load stack of ring 3"; movw $RING3 + 3, %ax; movw %ax, %ss; done
        try "load data of ring 3"; movw $RING3 + 3, %ax; movw %ax, %fs; done
        try "load execute-only"; movw $EXECUTE_ONLY, %ax; movw %ax, %fs; done
        try "load readable code"; movw $CODE32, %ax; movw %ax, %fs; done
        try "write to code"; movl %eax, %fs:0x200000; done
        try "load past the table"; movw $0x7F8, %ax; movw %ax, %fs; done
        try "load from the missing LDT"; xorl %eax, %eax; lldt %ax; movw $0x0C, %ax; movw %ax, %fs; done
        try "load the task"; movw $TASK, %ax; movw %ax, %fs; done
        try "jump to data"; ljmp $DATA32, $0; done
        try "jump to null"; ljmp $0, $0; done
        try "jump to absent"; movb $0x1A, gdt + ABSENT + 5; ljmp $ABSENT, $0; done
        try "jump past a limit"; ljmp $SMALL_CODE, $0x1000; done
        try "jump to conforming"; ljmp $CONFORMING, $7f; 7:; done
        try "jump back"; ljmp $CODE32, $7f; 7:; done
        descriptor SMALL, 0x200000, 0xFF, 0xF2, 4       # ring 3, so that the handler has a stack
        call user_setup
        user "push past a limit"; movw $SMALL | 3, %ax; movw %ax, %ss; movl $0x102, %esp; pushl %eax; back
        user "push below a limit"; movw $SMALL | 3, %ax; movw %ax, %ss; movl $0x100, %esp; pushl %eax; back
        user "push around zero"; movw $SMALL | 3, %ax; movw %ax, %ss; movl $2, %esp; pushl %eax; back
        user "read past a stack limit"; movw $SMALL | 3, %ax; movw %ax, %ss; movl $0xF0, %esp; movl 0x20(%esp), %eax; back
        user "read past a limit by EBP"; movw $SMALL | 3, %ax; movw %ax, %ss; movl $0x100, %ebp; movl (%ebp), %eax; back
        print "accessed bits: "
        movl gdt + SMALL + 4, %eax
        hex %eax
        movl gdt + RING3 + 4, %eax
        hex %eax
        movl gdt + EXECUTE_ONLY + 4, %eax
        hex %eax
        print "\nlar "
        movw $READ_ONLY, %cx
        larl %ecx, %eax
        hex %eax
        print " lsl "
        movl $CODE32, %ecx
        lsll %ecx, %eax
        hex %eax
        print " verr "
        movw $EXECUTE_ONLY, %cx
        verr %cx
        setz %al
        movzbl %al, %eax
        hex %eax
        print " verw "
        movw $SMALL, %cx
        verw %cx
        setz %al
        movzbl %al, %eax
        hex %eax
        print "\n"
        exit
