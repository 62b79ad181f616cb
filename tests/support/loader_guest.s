# The boot sector of loader_guest.py.  It shows what OpenBSD's boot loader shows at an
# encrypted disk, and reads the keyboard as that does, by the BIOS (INT 16h).
#   as --32 -o guest.o loader_guest.s
#   ld -m elf_i386 -Ttext 0 --oformat binary -o guest.bin guest.o
.code16
.globl _start
_start:
    cli
    xor %ax,%ax
    mov %ax,%ds
    mov %ax,%es
    mov %ax,%ss
    mov $0x7c00,%sp
    sti
    cld
    mov $0x0003,%ax       # 80x25 text, cleared
    int $0x10
    mov $(banner-_start+0x7c00),%si
    call puts
ask:
    mov $(prompt-_start+0x7c00),%si
    call puts
    mov $0x7e00,%di       # what is typed
key:
    xor %ax,%ax
    int $0x16
    test %al,%al
    jz key
    cmp $0x0d,%al
    je done
    cmp $0x08,%al
    jne store
    cmp $0x7e00,%di
    je key
    dec %di
    jmp key
store:
    stosb
    jmp key
done:
    xor %al,%al
    stosb
    mov $(nl-_start+0x7c00),%si
    call puts
    mov $0x0040,%ax       # the KDF: so many ticks of 55 ms
    push %ds
    mov %ax,%ds
    mov 0x6c,%bx
    pop %ds
    add ticks-_start+0x7c00,%bx
wait:
    sti
    hlt
    push %ds
    mov %ax,%ds
    cmp 0x6c,%bx
    pop %ds
    ja wait
    mov $0x7e00,%si
    mov $(secret-_start+0x7c00),%di
cmp1:
    lodsb
    scasb
    jne wrong
    test %al,%al
    jnz cmp1
    mov $(right-_start+0x7c00),%si
    call puts
end:
    hlt
    jmp end
wrong:
    mov $(refused-_start+0x7c00),%si
    call puts
    jmp ask
puts:
    lodsb
    test %al,%al
    jz 1f
    mov $0x0e,%ah
    mov $7,%bx
    int $0x10
    jmp puts
1:  ret
ticks:   .word 5
banner:  .asciz ">> OpenBSD/amd64 BOOT 3.67\r\n"
prompt:  .asciz "Passphrase: "
refused: .asciz "incorrect passphrase\r\n"
nl:      .asciz "\r\n"
right:   .asciz "boot> \r\nbooting sr0a:/bsd: 16+4\r\n"
secret:  .space 128
         .org 510
         .word 0xaa55
