# PAE paging in 32-bit mode: 8-byte entries, NX, reserved bits, PDPTEs that load with CR3.
# kvm-pvm cannot: has no paging outside of long mode
# QEMU differs: "reserved bit", "write to a reserved bit", "pointers have no A bit", "a pointer counts when CR3 is loaded"
        .include "protected.inc"
        .set POINTERS, 0x400000
        .set TABLE, 0x405000            # for C00000h to DFFFFFh
        .set AREA, 0xC00000
        .set FRAME, 0x500000
        .macro page number, low, high=0
        movl $(\low), TABLE + 8 * (\number)
        movl $(\high), TABLE + 4 + 8 * (\number)
        invlpg AREA + 0x1000 * (\number)
        .endm
main:   movl $POINTERS, %edi
        xorl %eax, %eax
        movl $0x2000, %ecx
        rep stosl
        movl $POINTERS + 0x1001, POINTERS
        movl $POINTERS + 0x2001, POINTERS + 8
        movl $0x087, %eax               # 2 MiB pages
        xorl %ecx, %ecx
1:      movl %eax, POINTERS + 0x1000(,%ecx,8)
        addl $0x200000, %eax
        incl %ecx
        cmpl $6, %ecx
        jb 1b
        movl $TABLE + 7, POINTERS + 0x1000 + 8 * 6
        movl $0x400083, POINTERS + 0x2000       # 40000000h is 400000h again
        change %cr4, 0, 0x20
        movl $POINTERS, %eax
        movl %eax, %cr3
        movl $0xC0000080, %ecx
        rdmsr
        orl $0x800, %eax                # NXE
        wrmsr
        change %cr0, 0, 0x80010000
        print "paging is on\n"
        print "pointers have no A bit: "
        movl 0x40000000, %eax
        hex %eax
        movl POINTERS, %eax
        hex %eax
        print "\n"
        try "beyond the pointers"; movl 0x80000000, %eax; done
        try "absent"; movl %eax, AREA; done
        page 0, FRAME | 3
        movb $0xC3, AREA
        try "execute"; movl $AREA, %eax; call *%eax; done
        page 0, FRAME | 3, 0x80000000
        try "execute NX page"; movl $AREA, %eax; call *%eax; done
        page 1, FRAME + 0x1000 | 1
        try "write read-only page"; movl %eax, AREA + 0x1000; done
        page 2, FRAME + 0x2000 | 3, 0x40000
        try "reserved bit"; movl AREA + 0x2000, %eax; done
        try "write to a reserved bit"; movl %eax, AREA + 0x2000; done
        movl $0, POINTERS + 8
        try "a pointer counts when CR3 is loaded"; movl 0x40001000, %eax; done
        movl %cr3, %eax
        movl %eax, %cr3
        try "then it does"; movl 0x40001000, %eax; done
        exit
