/* A client of the keepers' PMIx without MPI: pmix_client [HOST FILE] publishes, meets the others in fences of all and
 * of some ranks, asks for what was published outside of fences, and prints "R of N ok". Ranks on HOST wait for FILE
 * before the first fence. */
#include <pmix.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pmix_proc_t me;
static uint32_t size;

static int failed(const char *what, pmix_status_t rc)
{
    if (rc != PMIX_SUCCESS)
        printf("%u: %s: %s\n", me.rank, what, PMIx_Error_string(rc));
    fflush(stdout);
    return rc != PMIX_SUCCESS;
}

static int publish(const char *key)
{
    pmix_value_t v;
    char text[PMIX_MAX_KEYLEN + 16];

    snprintf(text, sizeof text, "%s of %u", key, me.rank);
    PMIX_VALUE_LOAD(&v, text, PMIX_STRING);
    pmix_status_t rc = PMIx_Put(PMIX_GLOBAL, key, &v);
    PMIX_VALUE_DESTRUCT(&v);
    return failed("put", rc) || failed("commit", PMIx_Commit());
}

static int get(const char *key, uint32_t rank)
{
    char want[PMIX_MAX_KEYLEN + 16];
    pmix_value_t *v = NULL;
    pmix_proc_t other;

    PMIX_LOAD_PROCID(&other, me.nspace, rank);
    snprintf(want, sizeof want, "%s of %u", key, rank);
    if (failed(want, PMIx_Get(&other, key, NULL, 0, &v)))
        return 1;
    int bad = v->type != PMIX_STRING || strcmp(v->data.string, want) != 0;
    if (bad)
        printf("%u: something else than '%s'\n", me.rank, want);
    PMIX_VALUE_RELEASE(v);
    return bad;
}

static int get_all(const char *key)
{
    int bad = 0;

    for (uint32_t i = 0; i < size && !bad; i++)
        bad = get(key, i);
    return bad;
}

static int fence(bool collect)
{
    pmix_info_t info;

    PMIX_INFO_LOAD(&info, PMIX_COLLECT_DATA, &collect, PMIX_BOOL);
    pmix_status_t rc = PMIx_Fence(NULL, 0, &info, 1);
    PMIX_INFO_DESTRUCT(&info);
    return failed("fence", rc);
}

int main(int argc, char **argv)
{
    pmix_value_t *v;
    pmix_proc_t all;
    char host[256] = "";

    if (failed("init", PMIx_Init(&me, NULL, 0)))
        return 1;
    PMIX_LOAD_PROCID(&all, me.nspace, PMIX_RANK_WILDCARD);
    if (failed("size", PMIx_Get(&all, PMIX_JOB_SIZE, NULL, 0, &v)))
        return 1;
    size = v->data.uint32;
    PMIX_VALUE_RELEASE(v);
    gethostname(host, sizeof host - 1);
    if (argc > 2 && !strcmp(argv[1], host))
        while (access(argv[2], F_OK))
            nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);

    int bad = publish("first") || fence(true) || get_all("first");
    bad = bad || publish("late") || fence(false) || get_all("late") || fence(false);
    if (!bad)
        printf("%u of %u ok\n", me.rank, size);
    PMIx_Finalize(NULL, 0);
    return bad;
}
