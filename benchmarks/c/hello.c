/* A plugin that says hello to its broker, waits for the answer and exits; without a broker it exits at once. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int answered(int broker)
{
    char text[65536];
    size_t size = 0;

    while (size < sizeof text - 1) {
        ssize_t n = read(broker, text + size, sizeof text - 1 - size);

        if (n <= 0)
            return 0;
        size += (size_t)n;
        text[size] = '\0';
        if (text[size - 1] == '\n')
            return strstr(text, "\"result\"") != NULL;
    }
    return 0;
}

int main(void)
{
    const char *where = getenv("OXGEN_BROKER");
    const char *token = getenv("OXGEN_CAPABILITY_TOKEN");
    char call[16384];
    int broker, size;

    if (where == NULL)
        return 0;

    if (token == NULL || sscanf(where, "fd:%d", &broker) != 1)
        return 1;
    size = snprintf(
        call, sizeof call,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\",\"params\":{\"token\":\"%s\"}}\n",
        token);
    if (size < 0 || (size_t)size >= sizeof call || write(broker, call, (size_t)size) != size)
        return 1;

    return answered(broker) ? 0 : 1;
}
