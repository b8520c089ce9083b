/* Inside of protected.c: cases without chance, each made for one of the mistakes that protected-mutants has. */
#ifndef TESTS_PROTECTED_NAMED_H
#define TESTS_PROTECTED_NAMED_H

static bool saved(int n, int each, int parities, int words, uint64_t steps)
{
    bool fine;

    nodes = n;
    per = each;
    world = n * each;
    k = parities;
    n_own = words;
    n_shared = 100;
    disarm();
    for (int i = 0; i < nodes; i++)
        node_up(i);
    fine = attempt(1);
    for (uint64_t step = 1; fine && step <= steps; step++) {
        fine = ranks(SAVE, step, 1, 60 * MU_SEC, 0);
        if (fine && !book->protected)
            fine = bad("step %d is not protected: %s", (int)step, book->text);
    }
    return fine;
}

static bool comes_back(uint64_t step)
{
    if (!attempt(2) || !ranks(RESTORE, 0, 2, 0, 0))
        return false;
    if (book->wrong || book->restored != (int64_t)step)
        return bad("step %d is protected, %d came back%s: %s", (int)step, (int)book->restored,
                   book->wrong ? ", wrong" : "", book->text);
    return true;
}

/* The parity that is asked for first is damaged all over on all nodes, and one of them is lost. */
static bool unsummed_case(void)
{
    bool fine = saved(6, 1, 2, 3000, 2);

    for (int i = 0; fine && i < nodes; i++)
        for (uint32_t c = 0; c < MU_ARENA_SLOTS; c++) {
            const struct mu_arena_parity *x = &node[i].head->parity[c];
            unsigned char *map;

            if (x->id.step != 2)
                continue;
            if (mu_arena_map_fd(node[i].head, x->fd, x->chunk, true, &map, NULL))
                return bad("node %d's parity cannot be mapped", i);
            for (uint64_t at = 0; at < x->chunk; at += 64)
                map[at] ^= 1;
            munmap(map, x->chunk);
        }
    node_down(0);
    node_up(0);
    return fine && comes_back(2);
}

/* A node takes in what comes by a hundred bytes: long after all know who has what it has nothing. */
static bool early_case(void)
{
    bool fine = saved(4, 2, 2, N_MOST - 1, 1);

    for (uint64_t step = 2; fine && step < 7; step++) {
        arm(1, SHIM_NET_SHORT, 1);
        fine = ranks(SAVE, step, 1, 60 * MU_SEC, 0);
        if (fine && !book->protected)
            fine = bad("step %d is not protected: %s", (int)step, book->text);
    }
    disarm();
    return fine;
}

/* A save begins that a node cannot take part in, and then that node is lost. */
static bool newer_case(void)
{
    uint64_t until = mu_now() + START_LIMIT;
    bool fine = saved(4, 1, 2, 3000, 2), begun = false;

    kill(node[1].drain, SIGSTOP);
    fine = fine && ranks(SAVE, 3, 1, 100 * MU_MS, 0);
    while (fine && !begun) {
        begun = true;
        for (int i = 0; i < nodes; i++)
            begun &= i == 1 || parity_is(i, 3, MU_ARENA_FILLING);
        if (!begun && mu_now() > until) {
            unwell = true;
            fine = bad("the drains do not begin a save");
        }
        usleep(1000);
    }
    node_down(1);
    node_up(1);
    return fine && comes_back(2);
}

/* Two attempts follow one another before the drains have looked at the first. */
static bool torn_case(void)
{
    bool fine = saved(4, 1, 2, 3000, 1) && attempt(2);

    usleep(30000); /* a drain that has seen the one reads it while the other is set */
    fine = fine && attempt(3) && ranks(SAVE, 2, 3, 60 * MU_SEC, 0);
    if (fine && !book->protected)
        fine = bad("step 2 is not protected: %s", book->text);
    return fine;
}

static const struct {
    const char *name;
    bool (*does)(void);
} by_name[] = {{"unsummed", unsummed_case}, {"early", early_case}, {"newer", newer_case}, {"torn", torn_case}};

static int one_by_name(const char *name)
{
    for (size_t i = 0; i < MU_COUNT(by_name); i++)
        if (!strcmp(by_name[i].name, name)) {
            bool fine = by_name[i].does();

            for (int x = 0; x < nodes; x++)
                node_down(x);
            printf("%s: %s\n", name, fine ? "as it should be" : why);
            return fine ? 0 : unwell ? 3 : 1;
        }
    fprintf(stderr, "protected: no case %s\n", name);
    return 2;
}

#endif
