/* Writes down, in the file that SYNCS names, which files and folders a process syncs and links, in
   order. Loaded before the C library by tests/chaos/power_cut.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void note(const char *what, const char *path) {
    int file = open(getenv("SYNCS"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dprintf(file, "%s %s\n", what, path);
    close(file);
}

static void note_synced(int fd) {
    char link[64], path[PATH_MAX + 1] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, PATH_MAX) > 0) note("sync", path);
}

int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    int result = real(fd);
    if (result == 0) note_synced(fd);
    return result;
}

int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    int result = real(fd);
    if (result == 0) note_synced(fd);
    return result;
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
    int (*real)(int, const char *, int, const char *, int) =
        (int (*)(int, const char *, int, const char *, int))dlsym(RTLD_NEXT, "linkat");
    int result = real(from, old, to, new, flags);
    if (result == 0) note("link", new);
    return result;
}
