# Privilege: IRET to ring 3, interrupts and faults back through the TSS's stack, call gates with parameters, IOPL and the I/O bitmap.
# kvm-pvm cannot: has no ring 3 outside of long mode
# QEMU differs: "misaligned with AC", "misaligned push with AC"
        .include "protected.inc"
        .include "user.inc"
        .set GATE, SPARE                # to ring 0, two parameters, DPL 3
        .set GATE_SAME, SPARE + 8       # DPL 0
        .set GATE_ABSENT, SPARE + 16
        .set CONFORMING, SPARE + 24
main:   gate gdt + GATE, CODE32, gate_entry, 0xEC, 2
        gate gdt + GATE_SAME, CODE32, gate_entry, 0x8C, 2
        gate gdt + GATE_ABSENT, CODE32, gate_entry, 0x6C, 0
        descriptor CONFORMING, 0, 0xFFFFF, 0x9E, 12
        call user_setup
        movb $0xEF, idt + 8 * 3 + 5     # DPL 3, trap gate
        hook 0x41, show_frame
        hook 0x43, load_ring_0
        user "frame"; int $0x41; back
        user "cli"; cli; back
        user "hlt"; hlt; back
        user "in"; inb $0x80, %al; back
        user "mov cr0"; movl %cr0, %eax; back
        user "lgdt"; lgdt gdtr; back
        user "wrmsr"; wrmsr; back
        user "invlpg"; invlpg 0; back
        user "int 0x45"; int $0x45; back
        user "int3"; int3; back
        user "ud2"; ud2; back
        user "load ring 0 data"; movw $DATA32, %ax; movw %ax, %fs; back
        user "jump to ring 0 code"; ljmp $CODE32, $0; back
        user "call ring 0 code"; lcall $CODE32, $0; back
        user "call a gate of DPL 0"; lcall $GATE_SAME | 3, $0; back
        user "call an absent gate"; lcall $GATE_ABSENT | 3, $0; back
        user "conforming code"; lcall $CONFORMING, $conforming; back
        user "call gate"; pushl $0x1111; pushl $0x2222; lcall $GATE | 3, $0; movl %esp, %ebx; subl $user_top, %ebx; call show_ebx; back
        user "popf does not change IF"; pushl $0x3202; popf; pushf; popl %ebx; call show_ebx; back
        user "sgdt"; sgdt scratch; back
        user "smsw"; smsw %bx; andl $1, %ebx; call show_ebx; back
        change %cr4, 0, 0x800           # UMIP
        user "sgdt with UMIP"; sgdt scratch; back
        user "smsw with UMIP"; smsw %bx; back
        change %cr4, 0x800, 4           # TSD
        user "rdtsc with TSD"; rdtsc; back
        change %cr4, 4, 0
        movl $0x3002, user_flags        # IOPL 3
        user "cli with IOPL 3"; cli; pushf; popl %ebx; call show_ebx; back
        user "in with IOPL 3"; inb $0x80, %al; back
        change %cr0, 0, 0x40000         # AM
        movl $0x40002, user_flags       # AC
        user "aligned with AC"; movl scratch, %eax; movw scratch + 2, %bx; movb scratch + 3, %cl; back
        user "misaligned with AC"; movl scratch + 2, %eax; back
        user "misaligned push with AC"; decl %esp; pushl %eax; back
        change %cr0, 0x40000, 0
        user "misaligned without AM"; movl scratch + 2, %eax; back
        movl $2, user_flags
        movw $104, tss + 102
        movw $104 + 32, gdt + TASK      # ports 0 to FFh in the bitmap
        movb $0x89, gdt + TASK + 5      # not busy
        movw $TASK, %ax
        ltr %ax
        movb $0xFE, tss + 104 + 0x10    # port 80h allowed, 81h not
        movb $0x00, tss + 104 + 0x1D    # E8h to EFh allowed
        user "in 80h by the bitmap"; inb $0x80, %al; back
        user "in 81h by the bitmap"; inb $0x81, %al; back
        user "inw 80h by the bitmap"; inw $0x80, %ax; back
        user "in 3F8h beyond the bitmap"; movw $0x3F8, %dx; inb %dx, %al; back
        user "data segments are nulled on return"; call returns; back
        print "iret to a ring 3 stack of ring 0: "
        movl $9f, resume
        movl %esp, resume_esp
        pushl $DATA32
        pushl $user_top
        pushl $2
        pushl $USER_CODE
        pushl $0
        iret
9:      print "retf to null: "
        movl $9f, resume
        movl %esp, resume_esp
        pushl $0
        pushl $0
        lret
9:      exit

show_frame: movl $ring0_top, %ebx       # vector, error, EIP, CS, EFLAGS, ESP, SS
        subl %esp, %ebx
        hex %ebx
        print " cs "
        hex 12(%esp)
        print " ss "
        hex 24(%esp)
        movl 20(%esp), %ebx
        subl $user_top, %ebx
        print " esp "
        hex %ebx
        print " here "
        movl %cs, %ebx
        hex %ebx
        movl %ss, %ebx
        hex %ebx
        print " "
        addl $8, %esp
        iret
load_ring_0: movw $DATA32, %ax
        movw %ax, %fs                   # GS keeps the user's
        addl $8, %esp
        iret
gate_entry: movl %ss:8(%esp), %ebx
        call show_ebx                   # parameters, in ring 0 by gate
        movl 12(%esp), %ebx
        call show_ebx
        movl 4(%esp), %ebx              # CS of the caller
        call show_ebx
        movl $ring0_top, %ebx
        subl %esp, %ebx
        call show_ebx
        lret $8
conforming: movl %cs, %ebx
        call show_ebx
        lret
returns: movw $USER_DATA, %ax
        movw %ax, %fs
        movw %ax, %gs
        int $0x43
        movl %fs, %ebx
        call show_ebx
        movl %gs, %ebx
        call show_ebx
        ret
        .data
        .balign 8
scratch: .quad 0
