/* Preloaded into an agent: clocks and a boot id that a test moves.
 *
 * FAULT_CLOCKS names a file of three int64, mapped, of nanoseconds: by how much the wall clock
 * was set, how long the machine has slept, and by how much its boot is another one's. To
 * CLOCK_REALTIME come the first two, to CLOCK_BOOTTIME the last two: a sleep is one number, so
 * that both clocks go on at the same instant, as the kernel's do. CLOCK_MONOTONIC stays, since
 * the kernel waits by it.
 * FAULT_BOOT_ID names the file that is read for the kernel's boot id.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define SECOND 1000000000LL

enum { SET, SLEPT, BOOTED, SHIFTS };

static const volatile int64_t *shifts;

__attribute__((constructor)) static void map_shifts(void)
{
    const char *path = getenv("FAULT_CLOCKS");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, SHIFTS * sizeof *shifts, PROT_READ, MAP_SHARED, fd, 0);

    shifts = mapped == MAP_FAILED ? NULL : mapped;
    if (fd >= 0)
        close(fd);
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, id, now);

    if (!failed && shifts && (id == CLOCK_REALTIME || id == CLOCK_BOOTTIME)) {
        int64_t ns = now->tv_sec * SECOND + now->tv_nsec + shifts[SLEPT] +
                     shifts[id == CLOCK_BOOTTIME ? BOOTED : SET];
        now->tv_sec = ns / SECOND;
        now->tv_nsec = ns % SECOND;
    }
    return failed;
}

static const char *place_of(const char *path)
{
    const char *boot_id = getenv("FAULT_BOOT_ID");

    return boot_id && path && strcmp(path, BOOT_ID) == 0 ? boot_id : path;
}

int open64(const char *path, int flags, ...)
{
    static int (*real)(const char *, int, ...);
    va_list rest;
    int mode;

    va_start(rest, flags);
    mode = va_arg(rest, int);
    va_end(rest);
    if (!real)
        real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    return real(place_of(path), flags, mode);
}
