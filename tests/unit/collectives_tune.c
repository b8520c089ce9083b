/* The cache of thresholds: found again for the same key, and none when it is damaged, of another machine, or not ours.
 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collectives/tune.h"
#include "runtime/base/clean.h"
#include "runtime/base/path.h"
#include "tests/unit/tap.h"

/* Files beside path. */
static int names(const char *path)
{
    char dir[4096];
    struct dirent *e;
    int n = 0;

    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path), path);
    mu_auto_dir DIR *d = opendir(dir);
    while (d && (e = readdir(d)))
        n += e->d_name[0] != '.';
    return d ? n : -1;
}

int main(void)
{
    static const struct mu_tuned good = {4096, 65536, 1048576};
    static const struct {
        const char *why, *text;
    } bad[] = {
        {"empty", ""},
        {"of another version", "muster-tune/3\nkey\neverybody 4096 read 65536 chain 0\nend\n"},
        {"of another machine", "muster-tune/4\nkeys\neverybody 4096 read 65536 chain 0\nend\n"},
        {"cut off", "muster-tune/4\nkey\neverybody 4096 read 65536 chain 0\nen"},
        {"with a number that is too large", "muster-tune/4\nkey\neverybody 4096 read 4000000000 chain 0\nend\n"},
        {"with a number beyond its type", "muster-tune/4\nkey\neverybody 4096 read 4294967360 chain 0\nend\n"},
        {"with no number", "muster-tune/4\nkey\neverybody 4096 read much chain 0\nend\n"},
        {"with a chain that is too short", "muster-tune/4\nkey\neverybody 4096 read 65536 chain 63\nend\n"},
        {"with a number less", "muster-tune/4\nkey\neverybody 4096 read 65536\nend\n"},
        {"with a negative number", "muster-tune/4\nkey\neverybody -4096 read 65536 chain 0\nend\n"},
        {"with more behind it", "muster-tune/4\nkey\neverybody 4096 read 65536 chain 0\nend\nend\n"},
    };
    char dir[] = "/tmp/t.tune.XXXXXX", path[4096], other[4096], key[512], key2[512], name[32];
    struct mu_tuned got = {1, 2};
    struct mu_err err;

    if (!mkdtemp(dir))
        return 99;
    setenv("MUSTER_HOME", dir, 1);
    TAP_OK(mu_tune_where(&(struct mu_tune_kind){4, 1, 0, true}, path, sizeof path, key, sizeof key) &&
               strstr(path, dir) == path && strstr(key, "4 ranks"),
           "it has a place below MUSTER_HOME");
    TAP_OK(mu_tune_where(&(struct mu_tune_kind){4, 1, 0, false}, other, sizeof other, key2, sizeof key2) &&
               strcmp(path, other) && strcmp(key, key2) &&
               mu_tune_where(&(struct mu_tune_kind){2, 1, 0, true}, other, sizeof other, key2, sizeof key2) &&
               strcmp(path, other) &&
               mu_tune_where(&(struct mu_tune_kind){4, 2, 0, true}, other, sizeof other, key2, sizeof key2) &&
               strcmp(path, other) &&
               mu_tune_where(&(struct mu_tune_kind){4, 1, 2, true}, other, sizeof other, key2, sizeof key2) &&
               strcmp(path, other),
           "another one for each number of ranks, of caches and of ranks in a domain, and where processes may not be "
           "read");
    TAP_OK(!mu_tune_load(path, key, &got) && got.everybody == 1, "nothing is there");
    TAP_OK(mu_tune_store(path, key, NULL) && !mu_tune_load(path, key, &got), "it could be there");
    TAP_OK(mu_tune_store(path, key, &good) && mu_tune_load(path, key, &got) && got.everybody == 4096 &&
               got.read == 65536 && got.chain == 1048576,
           "and then is");
    TAP_OK(!mu_tune_load(path, "another key", &got), "not for another key");
    chmod(path, 0622);
    TAP_OK(!mu_tune_load(path, key, &got), "nor when others can write to it");
    unlink(path);
    TAP_OK(symlink("/dev/zero", path) == 0 && !mu_tune_load(path, key, &got), "nor when it is a link");
    TAP_OK(mu_tune_store(path, key, &good) && mu_tune_load(path, key, &got) && unlink(path) == 0 && names(path) == 0,
           "what counts as none is replaced, and there was no file of another name");
    TAP_OK(mkfifo(path, 0600) == 0 && !mu_tune_load(path, key, &got), "nor when it is a pipe");
    unlink(path);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(name, sizeof name, "bad-%zu", i);
        tap_write(dir, name, bad[i].text);
        snprintf(other, sizeof other, "%s/%s", dir, name);
        chmod(other, 0600);
        TAP_OK(!mu_tune_load(other, "key", &got), "none: %s", bad[i].why);
    }
    tap_write(dir, "good", "muster-tune/4\nkey\neverybody 4096 read 65536 chain 0\nend\n");
    snprintf(other, sizeof other, "%s/good", dir);
    chmod(other, 0600);
    TAP_OK(mu_tune_load(other, "key", &got), "one: all of it");
    if (geteuid() == 0) {
        TAP_OK(chown(other, 12345, 12345) == 0 && !mu_tune_load(other, "key", &got), "not of another account");
    } else {
        TAP_SKIP("needs root for a file of another account");
    }
    snprintf(other, sizeof other, "%s/good/tune", dir);
    TAP_OK(!mu_tune_store(other, key, NULL) && !mu_tune_store(other, key, &good),
           "a place that cannot be made is said");
    mu_path_remove_tree(dir, &err);
    return tap_done();
}
