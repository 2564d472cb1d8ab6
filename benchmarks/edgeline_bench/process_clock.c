/* Times whole processes: starts a program over and over, waits for its end, and tells the seconds and the memory.
 *
 *     process_clock RUNS PROGRAM [ARGUMENT...]
 *
 * It writes {"seconds": [...], "peak_bytes": N}, or {"error": "..."} and exit code 1 when the program does not start or
 * does not end with 0. The seconds go from before fork() to after the process was waited for; its output goes to
 * /dev/null. The peak is the largest resident set of any run. Linux counts in it what the child held before exec(), that
 * is, this program: it is small, and the figure is at most too large. A start from Python would count Python's. */

#define _DEFAULT_SOURCE /* wait4 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int fail(const char *what) {
    printf("{\"error\": \"%s\"}\n", what);
    return 1;
}

int main(int argc, char **argv) {
    long runs = argc > 2 ? strtol(argv[1], NULL, 10) : 0, peak_kib = 0;
    if (runs < 1) return fail("expected RUNS PROGRAM");
    double *seconds = calloc((size_t)runs, sizeof *seconds);
    if (!seconds) return fail("there is not enough memory");
    for (long run = 0; run < runs; run++) {
        double started = now_s();
        pid_t child = fork();
        if (child < 0) return fail("fork failed");
        if (child == 0) {
            int null = open("/dev/null", O_WRONLY);
            if (null >= 0) dup2(null, STDOUT_FILENO);
            execv(argv[2], argv + 2);
            _exit(127);
        }
        int status;
        struct rusage used;
        if (wait4(child, &status, 0, &used) != child) return fail("wait failed");
        seconds[run] = now_s() - started;
        if (!WIFEXITED(status)) return fail("the program was killed by a signal");
        if (WEXITSTATUS(status) == 127) return fail("the program does not start");
        if (WEXITSTATUS(status) != 0) return fail("the program did not end with exit code 0");
        if (used.ru_maxrss > peak_kib) peak_kib = used.ru_maxrss;
    }
    printf("{\"seconds\": [");
    for (long run = 0; run < runs; run++) printf("%s%.9f", run ? ", " : "", seconds[run]);
    printf("], \"peak_bytes\": %ld}\n", peak_kib * 1024);
    return 0;
}
