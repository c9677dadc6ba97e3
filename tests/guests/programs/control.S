# Control registers and MSRs refuse what the manual says they refuse (SDM vol. 3, 2.5 and 4.1; vol. 2, MOV to control registers, WRMSR).
# kvm-pvm differs: "CR0 upper half", "LSTAR non-canonical", "GS base non-canonical"
# QEMU cannot: 7.2 checks none of this and stops working; the text is the manual's.
        .include "protected.inc"
        .include "long.inc"
main64: try "clear PG in long mode"; movq %cr0, %rax; btrq $31, %rax; movq %rax, %cr0; done
        try "clear PE"; movq %cr0, %rax; btrq $0, %rax; movq %rax, %cr0; done
        try "NW without CD"; movq %cr0, %rax; btsq $29, %rax; movq %rax, %cr0; done
        try "CR0 upper half"; movq %cr0, %rax; btsq $40, %rax; movq %rax, %cr0; done
        try "clear PAE in long mode"; movq %cr4, %rax; btrq $5, %rax; movq %rax, %cr4; done
        try "reserved bit of CR4"; movq %cr4, %rax; btsq $31, %rax; movq %rax, %cr4; done
        try "reserved bit of CR3"; movq %cr3, %rax; btsq $52, %rax; movq %rax, %cr3; done
        try "clear LME in long mode"; movl $0xC0000080, %ecx; rdmsr; btrl $8, %eax; wrmsr; done
        try "reserved bit of EFER"; movl $0xC0000080, %ecx; rdmsr; btsl $1, %eax; wrmsr; done
        try "LSTAR non-canonical"; movl $0xC0000082, %ecx; movl $0x8000, %edx; wrmsr; done
        try "GS base non-canonical"; movl $0xC0000101, %ecx; movl $0x8000, %edx; wrmsr; done
        try "unknown MSR, read"; movl $0x7FFF0000, %ecx; rdmsr; done
        try "unknown MSR, write"; movl $0x7FFF0000, %ecx; wrmsr; done
        try "CR1"; .byte 0x0F, 0x20, 0xC8; done
        try "CR5"; .byte 0x0F, 0x20, 0xE8; done
        try "DR4 with DE"; movq %cr4, %rax; btsq $3, %rax; movq %rax, %cr4; .byte 0x0F, 0x21, 0xE0; done
        try "DR7 upper half"; movq $1, %rax; shlq $32, %rax; movq %rax, %dr7; done
        try "task priority above 15"; movl $16, %eax; movq %rax, %cr8; done
        try "int1"; .byte 0xF1; done
        print "still in long mode\n"
        exit
