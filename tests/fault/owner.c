/* owner UID [FILE] [-i]: becomes another user for good, writes its pid to FILE, and waits a minute. -i: without its
 * environment. Installed set-user-ID it does so for users who may not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    uid_t uid = argc > 1 ? (uid_t)atol(argv[1]) : 0;
    char *none[] = {NULL};

    if (argc > 3 && !strcmp(argv[3], "-i")) {
        argv[3] = NULL;
        execve(argv[0], argv, none);
        return 1;
    }
    if (argc > 2) {
        FILE *f = fopen(argv[2], "w");
        if (!f)
            return 1;
        fprintf(f, "%ld\n", (long)getpid());
        fclose(f);
    }
    if (setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
        return 1;
    alarm(60);
    pause();
    return 0;
}
