/* Which generations stay: the newest, each Nth, what is pinned, and what is being sent to an object store. SHIPPED. */
#include "runtime/ckpt/shipped.h"
#include "tests/unit/ckpt_help.h"

#include <fcntl.h>

static bool there(const char *dir, uint64_t generation)
{
    return !mu_ckpt_store_check(dir, generation, NULL);
}

/* "3 6 7" */
static const char *all(const char *dir)
{
    static char text[200];

    *text = 0;
    for (uint64_t g = 1; g < 30; g++)
        if (there(dir, g))
            sprintf(text + strlen(text), "%s%" PRIu64, *text ? " " : "", g);
    return text;
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[400];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        abort();
    close(fd);
}

static void generations(const char *dir)
{
    float data[100] = {0};
    uint64_t n = 100, at = 0;
    struct mu_err err = {0};
    struct world w;

    TAP_OK(!world_open(&w, dir, 1, 2, 20 * MU_SEC, &mu_ckpt_io_posix, &err) &&
               !add(&w.tensors[0], "t", MUSTER_FLOAT32, 1, &n, &at, &n, data, 0, &err),
           "a directory %s", err.text);
    mu_ckpt_writer_stop(w.writer[0], MU_SEC, NULL);
    w.place[0].every = 3;
    mu_ckpt_writer_start(&w.place[0], NULL, NULL, 0, &w.writer[0], NULL);
    for (uint64_t s = 1; s <= 5; s++)
        world_save(&w, s);
    while (mu_ckpt_writer_idle(w.writer[0], 20 * MU_SEC)) {
    }
    TAP_OK(!strcmp(all(dir), "3 4 5"), "the newest two, and each third: %s", all(dir));
    TAP_OK(!mu_ckpt_store_hold(&w.place[0], 4, true, &err), "one is held");
    write_file(dir, "g00000005/HOLD", "77 0123456789abcdef\n");
    for (uint64_t s = 6; s <= 8; s++)
        world_save(&w, s);
    while (mu_ckpt_writer_idle(w.writer[0], 20 * MU_SEC)) {
    }
    TAP_OK(!strcmp(all(dir), "3 4 6 7 8"), "it stays; what another epoch has held does not: %s", all(dir));
    mu_ckpt_store_hold(&w.place[0], 4, false, NULL);
    world_save(&w, 9);
    while (mu_ckpt_writer_idle(w.writer[0], 20 * MU_SEC)) {
    }
    TAP_OK(!strcmp(all(dir), "3 6 8 9"), "let go of, it goes: %s", all(dir));
    world_close(&w);
}

static void shipped(const char *dir)
{
    struct mu_ckpt_place p = {.io = &mu_ckpt_io_posix};
    struct mu_ckpt_shipped s = {.generation = 12, .step = 340, .url = "s3://b/p"}, t = {0};
    struct mu_err err = {0};

    snprintf(p.dir, sizeof p.dir, "%s", dir);
    TAP_OK(mu_ckpt_shipped_read(dir, &t) == MUSTER_ENOCKPT, "nothing shipped");
    TAP_OK(!mu_ckpt_shipped_write(&p, &s, &err) && !mu_ckpt_shipped_read(dir, &t) && t.generation == 12 &&
               t.step == 340 && !strcmp(t.url, s.url),
           "written and read %s", err.text);
    write_file(dir, "SHIPPED", "muster-shipped/1 13 340 s3://b/p 00000000\n");
    TAP_OK(mu_ckpt_shipped_read(dir, &t) == MUSTER_ENOCKPT && t.generation == 12, "damaged: none");
    write_file(dir, "SHIPPED", "muster-shipped/2 13 340 s3://b/p\n");
    TAP_OK(mu_ckpt_shipped_read(dir, &t) == MUSTER_ENOCKPT, "a newer format: none");
    mu_ckpt_shipped_forget(&p);
    TAP_OK(mu_ckpt_shipped_read(dir, &t) == MUSTER_ENOCKPT, "forgotten");
}

int main(void)
{
    const char *dir = scratch();

    generations(dir);
    shipped(dir);
    scratch_remove(dir);
    return tap_done();
}
