# 32-bit paging: error codes and CR2, A and D bits, WP, user pages, 4 MiB pages, INVLPG, accesses and code across pages.
# kvm-pvm cannot: has no paging outside of long mode
# QEMU differs: "modify absent"
        .include "protected.inc"
        .include "user.inc"
        .set DIRECTORY, 0x400000
        .set TABLE, 0x401000            # for C00000h to FFFFFFh
        .set FRAME, 0x500000            # page n of the table maps FRAME + n * 1000h, until it is changed
        .set AREA, 0xC00000
        .macro page n, value
        movl $(\value), TABLE + 4 * (\n)
        invlpg AREA + 0x1000 * (\n)
        .endm
        .macro show_page number
        movl TABLE + 4 * (\number), %ebx
        hex %ebx
        print "\n"
        .endm
main:   call user_setup
        movl $DIRECTORY, %edi
        xorl %eax, %eax
        movl $2048, %ecx
        rep stosl
        movl $0x087, DIRECTORY          # 4 MiB pages, user, writable
        movl $0x400087, DIRECTORY + 4
        movl $0x800083, DIRECTORY + 8   # supervisor
        movl $TABLE + 7, DIRECTORY + 12
        change %cr4, 0, 0x10            # PSE
        movl $DIRECTORY, %eax
        movl %eax, %cr3
        change %cr0, 0, 0x80000000
        print "paging is on\n"
        movl DIRECTORY + 8, %ebx
        hex %ebx
        movl 0x812345, %eax
        movl DIRECTORY + 8, %ebx
        hex %ebx
        movl %eax, 0x812345
        movl DIRECTORY + 8, %ebx
        hex %ebx
        print " 4 MiB page: untouched, read, written\n"
        try "read absent"; movl AREA + 0x123, %eax; done
        try "write absent"; movl %eax, AREA + 0x1456; done
        try "modify absent"; incl AREA + 0x1456; done
        try "read beyond the directory"; movl 0xFEDCBA98, %eax; done
        page 0, FRAME | 3
        try "read supervisor page"; movl AREA, %eax; done
        show_page 0
        try "write it"; movl %eax, AREA; done
        show_page 0
        user "read supervisor page at ring 3"; movl AREA, %eax; back
        user "write it at ring 3"; movl %eax, AREA + 8; back
        user "read supervisor 4 MiB page at ring 3"; movl 0x800010, %eax; back
        user "read absent at ring 3"; movl AREA + 0x3000, %eax; back
        user "write absent at ring 3"; movl %eax, AREA + 0x3000; back
        page 1, FRAME + 0x1000 | 5
        user "read read-only page at ring 3"; movl AREA + 0x1000, %eax; back
        user "write it at ring 3"; movl %eax, AREA + 0x1000; back
        show_page 1
        try "write read-only page, WP off"; movl %eax, AREA + 0x1000; done
        show_page 1
        page 1, FRAME + 0x1000 | 5
        change %cr0, 0, 0x10000
        try "write read-only page, WP on"; movl %eax, AREA + 0x1000; done
        try "modify it"; lock; addl $1, AREA + 0x1000; done
        try "cmpxchg that fails on it"; xorl %eax, %eax; movl $0x77, FRAME + 0x1000; cmpxchgl %ecx, AREA + 0x1000; done
        try "read it"; movl AREA + 0x1000, %eax; done
        page 2, FRAME + 0x2000 | 7
        user "write user page at ring 3"; movl %eax, AREA + 0x2000; back
        show_page 2
        movl $TABLE + 5, DIRECTORY + 12 # the directory entry restricts
        movl %cr3, %eax
        movl %eax, %cr3
        user "write with a read-only directory entry"; movl %eax, AREA + 0x2000; back
        movl $TABLE + 3, DIRECTORY + 12
        movl %cr3, %eax
        movl %eax, %cr3
        user "read with a supervisor directory entry"; movl AREA + 0x2000, %eax; back
        movl $TABLE + 7, DIRECTORY + 12
        movl %cr3, %eax
        movl %eax, %cr3

        page 4, FRAME + 0x9000 | 7      # two neighbours whose frames are none
        page 5, FRAME + 0x4000 | 7
        movl $0x11223344, AREA + 0x4FFE
        print "across pages: "
        movl FRAME + 0x9FFC, %eax
        hex %eax
        movl FRAME + 0x4000, %eax
        hex %eax
        movl AREA + 0x4FFE, %eax
        hex %eax
        print "\n"
        page 5, 0
        try "write across into absent"; movl $0x55667788, AREA + 0x4FFD; done
        movl FRAME + 0x9FFC, %eax
        hex %eax
        print " is as it was\n"
        try "read across into absent"; movl AREA + 0x4FFF, %eax; done
        page 4, 0
        page 5, FRAME + 0x4000 | 7
        try "write across out of absent"; movl %eax, AREA + 0x4FFE; done
        user "push across into absent at ring 3"; movl $AREA + 0x5002, %esp; pushl %eax; back
        movb $0xB8, FRAME + 0x9FFD      # mov eax, imm32 ; ret, across the pages
        movb $0x78, FRAME + 0x9FFE
        movb $0x56, FRAME + 0x9FFF
        movb $0x34, FRAME + 0x4000
        movb $0x12, FRAME + 0x4001
        movb $0xC3, FRAME + 0x4002
        page 4, FRAME + 0x9000 | 7
        movl $AREA + 0x4FFD, %eax
        call *%eax
        print "code across pages: "
        hex %eax
        print "\n"
        page 5, 0
        try "fetch across into absent"; movl $AREA + 0x4FFD, %eax; call *%eax; done
        page 4, 0
        try "fetch from absent"; movl $AREA + 0x4FF0, %eax; jmp *%eax; done
        page 6, FRAME + 0x6000 | 3
        user "fetch from supervisor page at ring 3"; movl $AREA + 0x6000, %eax; jmp *%eax; back

        page 7, FRAME + 0x7000 | 7      # a mapping that changes
        movl $0xAAAA, FRAME + 0x7000
        movl $0xBBBB, FRAME + 0x8000
        movl AREA + 0x7000, %eax
        hex %eax
        page 7, FRAME + 0x8000 | 7
        movl AREA + 0x7000, %eax
        hex %eax
        movl $FRAME + 0x7007, TABLE + 4 * 7
        movl %cr3, %eax
        movl %eax, %cr3
        movl AREA + 0x7000, %eax
        hex %eax
        change %cr4, 0, 0x80            # PGE
        page 7, FRAME + 0x7000 | 0x107  # global
        movl AREA + 0x7000, %eax
        page 7, FRAME + 0x8000 | 0x107
        movl AREA + 0x7000, %eax
        hex %eax
        movl $FRAME + 0x7107, TABLE + 4 * 7
        change %cr4, 0x80, 0            # flushes global pages too
        movl AREA + 0x7000, %eax
        hex %eax
        print " after invlpg, cr3, invlpg of a global page, cr4\n"

        page 8, FRAME + 0x8000 | 7      # REP stops in the middle
        page 9, 0
        movl $AREA + 0x8FF0, %edi
        movl $100, %ecx
        movb $0x5A, %al
        hook 14, stopped
        rep stosb
        print "resumed with ecx "
        hex %ecx
        print " edi "
        hex %edi
        movl AREA + 0x9000, %eax
        print " "
        hex %eax
        print "\n"
        unhook 14
        exit
stopped: print "rep stosb stopped with ecx "
        hex %ecx
        print " edi "
        hex %edi
        print " error "
        hex 4(%esp)
        print "\n"
        pushl %eax
        page 9, FRAME + 0xB000 | 7
        popl %eax
        addl $8, %esp
        iret
