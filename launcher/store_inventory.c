/* What nodes are made of, in the job store. The tables are made when they are first needed: a store without them is one
 * of version 1 as well. */
#include <stdio.h>
#include <stdlib.h>

#include "launcher/journal.h"
#include "launcher/store_priv.h"
#include "runtime/base/clean.h"
#include "runtime/base/str.h"

static const char tables[] =
    "CREATE TABLE IF NOT EXISTS inventory(seq INTEGER PRIMARY KEY, node TEXT NOT NULL, t INTEGER NOT NULL,"
    " row BLOB NOT NULL, sum INTEGER NOT NULL);"
    "CREATE INDEX IF NOT EXISTS inventory_node ON inventory(node, seq);"
    "CREATE TABLE IF NOT EXISTS baseline(node TEXT PRIMARY KEY, t INTEGER NOT NULL, row BLOB NOT NULL,"
    " sum INTEGER NOT NULL);";

static int have(struct mu_store *s, bool *there, struct mu_err *err)
{
    int64_t n = 0;
    int rc = mu_store_number(s, "SELECT count(*) FROM sqlite_schema WHERE name IN ('inventory', 'baseline')", &n, err);

    *there = n == 2;
    return rc;
}

/* node, time, row and its sum as ?1 to ?4; or, with keep, that as ?2. */
static int put(struct mu_store *s, const char *sql, const struct mu_m_inventory *m, unsigned keep, bool journal,
               struct mu_err *err)
{
    sqlite3_stmt *q = NULL;
    struct mu_bytes blob = {0};
    int rc = mu_msg_pack(&blob, MU_MSG_inventory, m);

    if (rc)
        return mu_err_set(err, rc, "the inventory of %s: %s", m->node, muster_strerror(rc));
    rc = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_text(q, 1, m->node, -1, SQLITE_STATIC);
        if (keep) {
            sqlite3_bind_int64(q, 2, keep);
        } else {
            sqlite3_bind_int64(q, 2, (sqlite3_int64)m->wall);
            sqlite3_bind_blob(q, 3, blob.data, (int)blob.len, SQLITE_STATIC);
            sqlite3_bind_int64(q, 4, (sqlite3_int64)mu_str_hash(blob.data, blob.len));
        }
        rc = sqlite3_step(q);
    }
    rc = rc == SQLITE_DONE ? 0 : mu_store_fail(s, rc, err);
    if (!rc && journal)
        mu_journal_add(s->journal, &blob);
    sqlite3_finalize(q);
    free(blob.data);
    return rc;
}

int mu_store_put_inventory(struct mu_store *s, const struct mu_m_inventory *m, struct mu_err *err)
{
    char trim[300];
    int rc = mu_store_run(s, tables, err);

    if (rc)
        return rc;
    snprintf(trim, sizeof trim,
             "DELETE FROM inventory WHERE seq <= (SELECT max(seq) FROM inventory) - %u AND EXISTS"
             " (SELECT 1 FROM inventory AS n WHERE n.node = inventory.node AND n.seq > inventory.seq)",
             MU_STORE_ALL_INVENTORY);
    if ((rc = put(s, "INSERT INTO inventory(node, t, row, sum) VALUES(?1, ?2, ?3, ?4)", m, 0, false, err)) ||
        (rc = put(s,
                  "DELETE FROM inventory WHERE node = ?1 AND seq NOT IN"
                  " (SELECT seq FROM inventory WHERE node = ?1 ORDER BY seq DESC LIMIT ?2)",
                  m, MU_STORE_KEEP_INVENTORY, false, err)))
        return rc;
    return mu_store_run(s, trim, err);
}

int mu_store_put_baseline(struct mu_store *s, const struct mu_m_inventory *m, struct mu_err *err)
{
    int rc = mu_store_run(s, tables, err);

    return rc ? rc
              : put(s,
                    "INSERT INTO baseline(node, t, row, sum) VALUES(?1, ?2, ?3, ?4)"
                    " ON CONFLICT(node) DO UPDATE SET t = ?2, row = ?3, sum = ?4",
                    m, 0, true, err);
}

static int journal_drop(struct mu_store *s, const char *node, struct mu_err *err)
{
    struct mu_m_withdraw m = {.hosts = (char *)(uintptr_t)node};
    struct mu_bytes blob = {0};
    int rc = s->journal ? mu_msg_pack(&blob, MU_MSG_withdraw, &m) : 0;

    if (rc)
        return mu_err_set(err, rc, "the baseline of %s: %s", node, muster_strerror(rc));
    if (s->journal)
        mu_journal_add(s->journal, &blob);
    free(blob.data);
    return 0;
}

int mu_store_drop_baseline(struct mu_store *s, const char *node, struct mu_err *err)
{
    sqlite3_stmt *q = NULL;
    int rc = mu_store_run(s, tables, err);

    if (rc)
        return rc;
    rc = sqlite3_prepare_v2(s->db, "DELETE FROM baseline WHERE node = ?1", -1, &q, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_bind_text(q, 1, node, -1, SQLITE_STATIC)) == SQLITE_OK)
        rc = sqlite3_step(q);
    rc = rc == SQLITE_DONE ? 0 : mu_store_fail(s, rc, err);
    sqlite3_finalize(q);
    return rc ? rc : journal_drop(s, node, err);
}

static int walk(struct mu_store *s, const char *sql, const char *node, mu_store_inventory_fn fn, void *arg,
                struct mu_err *err)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL), damaged = 0;

    if (rc == SQLITE_OK && node)
        sqlite3_bind_text(q, 1, node, -1, SQLITE_STATIC);
    while (rc == SQLITE_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        struct mu_bytes blob = {.data = (uint8_t *)(uintptr_t)sqlite3_column_blob(q, 1),
                                .len = (uint32_t)sqlite3_column_bytes(q, 1)};
        const char *name = (const char *)sqlite3_column_text(q, 0);
        struct mu_m_inventory m = {0};
        rc = SQLITE_OK;
        if (mu_str_hash(blob.data, blob.len) != (uint64_t)sqlite3_column_int64(q, 2) ||
            mu_msg_unpack(&blob, MU_MSG_inventory, &m, NULL)) {
            damaged =
                mu_err_set(err, MUSTER_ECORRUPT,
                           "job store %s: what it has of node %.200s is damaged and left out; if it was approved, "
                           "`muster inventory approve` it again",
                           s->path, name ? name : "?");
            continue;
        }
        fn(arg, &m);
        mu_msg_free_body(MU_MSG_inventory, &m);
    }
    rc = rc == SQLITE_DONE ? damaged : mu_store_fail(s, rc, err);
    sqlite3_finalize(q);
    return rc;
}

int mu_store_load_inventory(struct mu_store *s, mu_store_inventory_fn fn, void *arg, struct mu_err *err)
{
    struct mu_err other = {0};
    bool there;
    int rc = have(s, &there, err);

    if (rc || !there)
        return rc;
    rc = walk(s,
              "SELECT node, row, sum FROM inventory WHERE seq IN (SELECT max(seq) FROM inventory GROUP BY node)"
              " ORDER BY node",
              NULL, fn, arg, err);
    int more = walk(s, "SELECT node, row, sum FROM baseline ORDER BY node", NULL, fn, arg, &other);
    return rc || !more ? rc : mu_err_set(err, more, "%s", other.text);
}

int mu_store_inventory(struct mu_store *s, const char *node, mu_store_inventory_fn fn, void *arg, struct mu_err *err)
{
    bool there;
    int rc = have(s, &there, err);

    return rc || !there
               ? rc
               : walk(s, "SELECT node, row, sum FROM inventory WHERE node = ?1 ORDER BY seq", node, fn, arg, err);
}
