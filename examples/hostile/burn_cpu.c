/* A hostile plugin: ignore every signal that could be a warning, and burn processor time for ever,
 * in a child as well, so that a limit that holds for each process alone is reached twice as late. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    volatile unsigned long turns = 0;

    for (int number = 1; number < 32; number++)
        (void)signal(number, SIG_IGN);
    printf("burning\n");
    (void)fflush(stdout);
    (void)fork();
    for (;;)
        turns++;
}
