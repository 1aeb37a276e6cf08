# A static program that exits at once: the smallest thing that can be launched.
    .globl _start
_start:
    mov $60, %eax    # exit
    xor %edi, %edi
    syscall
    .section .note.GNU-stack, "", @progbits
