/* What a job store has had once, as far as files beside it tell: a damaged -wal file or an older copy put in its place
 * takes the newest changes away, and SQLite says nothing about it. */
#ifndef MU_LAUNCHER_PAST_H
#define MU_LAUNCHER_PAST_H

#include <stdint.h>

/* A file of one line that is written after each commit and never waited for: it survives the death of its writer, and
 * after that of the machine it is older than the store at most. */
struct mu_mark {
    int fd;            /* -1: none can be had; then nothing is known */
    uint64_t job, seq; /* highest number of a job, and of an event, that was committed; 0: none is known */
};
void mu_mark_open(struct mu_mark *, const char *path); /* makes it; one that cannot be read says nothing */
void mu_mark_write(struct mu_mark *, uint64_t job, uint64_t seq);
void mu_mark_close(struct mu_mark *);

/* The highest number that is the name of an entry of dir; 0: there is none. */
uint64_t mu_past_highest(const char *dir);

#endif
