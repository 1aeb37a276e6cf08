/* A JSON writer with one static buffer: usable after fork and below any memory limit. */
#include "hostile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char buffer[1 << 15];
static size_t used;
static char closing[32];
static bool empty[32];
static int depth;
static bool after_key;

void json_flush(void)
{
    size_t done = 0;

    while (done < used) {
        ssize_t n = write(1, buffer + done, used - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    used = 0;
}

static void put(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (used == sizeof buffer)
            json_flush();
        buffer[used++] = bytes[i];
    }
}

static void comma(void)
{
    if (after_key)
        after_key = false;
    else if (depth > 0) {
        if (!empty[depth - 1])
            put(",", 1);
        empty[depth - 1] = false;
    }
}

void json_open(char bracket)
{
    comma();
    put(&bracket, 1);
    closing[depth] = bracket == '{' ? '}' : ']';
    empty[depth] = true;
    depth++;
}

void json_close(void)
{
    depth--;
    put(&closing[depth], 1);
    if (depth == 0) {
        put("\n", 1);
        json_flush();
    }
}

static void quoted(const char *bytes, size_t length)
{
    put("\"", 1);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        char escape[8];

        if (byte == '"' || byte == '\\') {
            escape[0] = '\\';
            escape[1] = (char)byte;
            put(escape, 2);
        } else if (byte < 0x20 || byte >= 0x7f) {
            put(escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", byte));
        } else {
            put((const char *)&byte, 1);
        }
    }
    put("\"", 1);
}

void json_key(const char *key)
{
    comma();
    quoted(key, strlen(key));
    put(":", 1);
    after_key = true;
}

void json_int(long long value)
{
    char digits[32];

    comma();
    put(digits, (size_t)snprintf(digits, sizeof digits, "%lld", value));
}

void json_bool(bool value)
{
    comma();
    put(value ? "true" : "false", value ? 4 : 5);
}

void json_null(void)
{
    comma();
    put("null", 4);
}

void json_bytes(const char *bytes, size_t length)
{
    comma();
    quoted(bytes, length);
}

void json_text(const char *text)
{
    json_bytes(text, strlen(text));
}

void json_errno(int error)
{
    const char *name = error == 0 ? "ok" : strerrorname_np(error);

    if (name != NULL)
        json_text(name);
    else
        json_int(error);
}

void say_int(const char *key, long long value)
{
    json_key(key);
    json_int(value);
}

void say_bool(const char *key, bool value)
{
    json_key(key);
    json_bool(value);
}

void say_text(const char *key, const char *text)
{
    json_key(key);
    json_text(text);
}

void say_errno(const char *key, int error)
{
    json_key(key);
    json_errno(error);
}
