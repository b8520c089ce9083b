/* owner UID [FILE] [-i]: becomes another user for good, writes its pid to FILE when it is, and waits two minutes. -i:
 * without its environment. Installed set-user-ID it does so for users who may not. */
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
    FILE *f = argc > 2 ? fopen(argv[2], "w") : NULL;
    if ((argc > 2 && !f) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
        return 1;
    if (f) {
        fprintf(f, "%ld\n", (long)getpid());
        fclose(f);
    }
    alarm(120);
    pause();
    return 0;
}
