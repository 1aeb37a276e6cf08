/* Options of AddressSanitizer, compiled into the sanitized launcher only (OXGEN_SANITIZE=address).
 *
 * The launcher and the wardens start with an environment of their own, so ASAN_OPTIONS would not
 * reach them. Leaks are not looked for: the leak checker traces the process with ptrace, which a
 * non-dumpable process refuses. No log_path: inside a cell that file cannot be opened, and then
 * already a mere warning ends the process.
 * https://github.com/google/sanitizers/wiki/AddressSanitizerFlags */

const char *__asan_default_options(void);

__attribute__((used, visibility("default"))) const char *__asan_default_options(void)
{
    return "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1";
}
