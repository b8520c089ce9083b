/* Bulk connections and their records, through somebody in between who can look and change. */
#include "runtime/wire/bulk.h"
#include "runtime/wire/record.h"
#include "tests/unit/tls_help.h"

/* --- records ------------------------------------------------------------------------------------------------------ */

static const struct mu_key secret = {.bytes = "a secret of thirty-two bytes...."};

static void records(void)
{
    struct mu_record_key *s = mu_record_key_new(&secret, true, 1000), *o = mu_record_key_new(&secret, false, 1000);
    unsigned char text[300], out[2][400], body[400], tag[MU_RECORD_TAG];
    bool fine = true, differ = false;

    for (unsigned i = 0; i < sizeof text; i++)
        text[i] = (unsigned char)i;
    for (unsigned n = 0; n < 60; n++) { /* through many keys */
        unsigned open = n % 3 ? 0 : 77 + n;
        uint32_t sealed = 0, clear = 0;

        fine &= !mu_record_seal(s, text, n, text + n, 100, open ? text + 7 : NULL, open, out[n % 2], tag);
        mu_record_lengths(out[n % 2], &sealed, &clear);
        fine &= sealed == n + 100 && clear == open;
        memcpy(body, out[n % 2] + MU_RECORD_HEAD, sealed);
        memcpy(body + sealed, text + 7, open);
        memcpy(body + sealed + open, tag, sizeof tag);
        fine &= memcmp(body, text, sealed) != 0;
        fine &= !mu_record_open(o, out[n % 2], body) && !memcmp(body, text, sealed) &&
                !memcmp(body + sealed, text + 7, open);
        differ |= memcmp(out[0] + MU_RECORD_HEAD, out[1] + MU_RECORD_HEAD, 100) != 0;
    }
    TAP_OK(fine && differ, "records are opened as they were sealed, and none looks like another");
    mu_record_key_free(s);
    mu_record_key_free(o);

    for (unsigned at = 0; at < MU_RECORD_HEAD + 50 + 20 + MU_RECORD_TAG; at++) {
        unsigned char whole[MU_RECORD_HEAD + 50 + 20 + MU_RECORD_TAG + 64] = {0};

        s = mu_record_key_new(&secret, true, 1000);
        o = mu_record_key_new(&secret, false, 1000);
        fine &= !mu_record_seal(s, text, 20, text, 30, text, 20, whole, tag);
        memcpy(whole + MU_RECORD_HEAD + 50, text, 20);
        memcpy(whole + MU_RECORD_HEAD + 70, tag, sizeof tag);
        whole[at] ^= at < MU_RECORD_HEAD ? at % 4 ? 0 : 1 : 4; /* lengths that stay in the array */
        fine &= (mu_record_open(o, whole, whole + MU_RECORD_HEAD) == MUSTER_ECORRUPT) ==
                (at >= MU_RECORD_HEAD || at % 4 == 0);
        mu_record_key_free(s);
        mu_record_key_free(o);
    }
    TAP_OK(fine, "a changed byte is found wherever it is");
    s = mu_record_key_new(&secret, true, 1000);
    o = mu_record_key_new(&secret, false, 1000);
    mu_record_seal(s, text, 20, NULL, 0, NULL, 0, out[0], tag);
    mu_record_seal(s, text, 20, NULL, 0, NULL, 0, out[1], tag);
    memcpy(out[1] + MU_RECORD_HEAD + 20, tag, sizeof tag);
    TAP_OK(mu_record_open(o, out[1], out[1] + MU_RECORD_HEAD) == MUSTER_ECORRUPT, "so is one that is left out");
    mu_record_key_free(s);
    mu_record_key_free(o);
    mu_record_key_free(NULL);
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static struct mu_bulk_desk desk;

struct side {
    struct mu_bulk *bulk;
    unsigned msgs, downs, rooms, lent;
    uint64_t next;
    bool disorder, free_in_msg;
};

static void on_bulk_msg(void *arg, struct mu_bulk *b, const struct mu_msg *msg)
{
    struct side *s = arg;
    const struct mu_m_shard *m = &msg->shard;

    s->msgs++;
    s->disorder |= b != s->bulk || msg->type != MU_MSG_shard || m->at != s->next++;
    s->lent += m->data.len && m->data.data >= desk.in && m->data.data < desk.in + sizeof desk.in;
    for (uint32_t i = 0; i < m->data.len; i++)
        s->disorder |= m->data.data[i] != (uint8_t)(i * 7 + m->at);
    if (s->free_in_msg)
        mu_bulk_free(MU_STEAL(s->bulk, NULL));
}
static void on_bulk_down(void *arg, struct mu_bulk *b)
{
    struct side *s = arg;

    s->downs++;
    mu_bulk_free(b);
    s->bulk = NULL;
}
static void on_bulk_room(void *arg, struct mu_bulk *b)
{
    struct side *s = arg;

    s->rooms += b == s->bulk;
}
static const struct mu_bulk_calls calls = {.msg = on_bulk_msg, .down = on_bulk_down, .room = on_bulk_room};

/* Who passes on between the two ends what they send. */
static struct between {
    int fds[2];                    /* of the dialling end, of the listening one */
    uint64_t passed[2], change_at; /* of what the dialling end sends; UINT64_MAX: nothing */
    unsigned char change;
    bool saw;
} between;
static const char needle[] = "needle in the hay";

static void pass_on(void)
{
    static unsigned char buf[1 << 20];

    for (int from = 0; from < 2; from++) {
        ssize_t n = recv(between.fds[from], buf, sizeof buf, MSG_DONTWAIT);

        if (n == 0)
            shutdown(between.fds[!from], SHUT_WR);
        for (ssize_t i = 0; !from && i < n; i++)
            if (between.passed[0] + (uint64_t)i == between.change_at)
                buf[i] ^= between.change;
        between.saw |= n > 0 && memmem(buf, (size_t)n, needle, sizeof needle - 1);
        for (ssize_t at = 0; n > 0 && at < n;) {
            ssize_t put = send(between.fds[!from], buf + at, (size_t)(n - at), MSG_DONTWAIT | MSG_NOSIGNAL);

            at += put > 0 ? put : 0;
            if (put < 0 && errno != EAGAIN)
                break;
            if (put < 0)
                spin(1);
        }
        between.passed[from] += n > 0 ? (uint64_t)n : 0;
    }
}
#define PASS_UNTIL(cond)                                                                                               \
    for (uint64_t till_ = mu_now() + 20 * MU_SEC; !(cond) && mu_now() < till_;) {                                      \
        pass_on();                                                                                                     \
        spin(1);                                                                                                       \
    }

struct both {
    struct door door;
    struct call call;
    struct side at_door, at_call;
    int listener;
};

/* Both ends have proved themselves; what they are made into is the caller's. */
static bool meet(struct both *x, const struct mu_tls_limits *limits)
{
    uint16_t port;

    memset(x, 0, sizeof *x);
    between = (struct between){.change_at = UINT64_MAX};
    x->listener = plain_listener(1, &port);
    if (!open_door(&x->door, "127.0.0.1", limits) || !start_call(&x->call, "127.0.0.1", port, &key, limits))
        return false;
    x->door.keep_conn = x->call.keep_conn = true;
    for (uint64_t till = mu_now() + 5 * MU_SEC; mu_now() < till;) {
        between.fds[0] = accept(x->listener, NULL, NULL);
        if (between.fds[0] >= 0)
            break;
        spin(1);
    }
    between.fds[1] = plain(x->door.port);
    PASS_UNTIL(x->door.conn && x->call.conn);
    return x->door.conn && x->call.conn;
}

static bool link_up(struct both *x)
{
    x->at_door.bulk = mu_bulk_new(MU_STEAL(x->door.conn, NULL), &desk, &calls, &x->at_door);
    x->at_call.bulk = mu_bulk_new(MU_STEAL(x->call.conn, NULL), &desk, &calls, &x->at_call);
    return x->at_door.bulk && x->at_call.bulk;
}

static void part(struct both *x)
{
    mu_bulk_free(x->at_door.bulk);
    mu_bulk_free(x->at_call.bulk);
    end_call(&x->call);
    close_door(&x->door);
    close(x->listener);
    for (int i = 0; i < 2; i++)
        close(between.fds[i]);
}

static int send_shard(struct side *s, uint64_t n, uint32_t len)
{
    static uint8_t data[400000];
    struct mu_m_shard m = {.kind = 1, .at = n};

    for (uint32_t b = 0; b < len; b++)
        data[b] = (uint8_t)(b * 7 + n);
    int rc = mu_bulk_send(s->bulk, MU_MSG_shard, &m, data, len);
    memset(data, 0xee, len);
    return rc;
}

static void any_size(void)
{
    static const uint32_t sizes[] = {0, 1, 100, 16384, 65537, 262144, 400000, 4095};
    struct both x;

    for (int open = 0; open < 2; open++) {
        bool fine = meet(&x, &(struct mu_tls_limits){.rekey_records = 20}) && link_up(&x);
        uint64_t n = 0;

        mu_bulk_open(x.at_call.bulk, open);
        mu_bulk_open(x.at_door.bulk, open);
        for (; fine && n < 100; n++) {
            fine = !send_shard(&x.at_call, n, sizes[n * 5 % MU_COUNT(sizes)]) && !send_shard(&x.at_door, n, 100);
            if (n % 10 == 9) {
                pass_on();
                spin(1);
            }
        }
        PASS_UNTIL(x.at_door.msgs == n && x.at_call.msgs == n);
        TAP_OK(fine && x.at_door.msgs == 100 && x.at_call.msgs == 100 && !x.at_door.disorder && !x.at_call.disorder,
               "%s: a hundred messages each way, as they were sent, through many keys", open ? "open" : "encrypted");
        TAP_OK(x.at_call.rooms && !mu_bulk_pending(x.at_call.bulk), "that there is room again is said (%u times)",
               x.at_call.rooms);
        TAP_OK(x.at_call.lent == 100, "what is short is used where it was received");
        part(&x);
    }
    TAP_OK(!*logged(), "nothing of this is worth a line in the log");
}

static void on_the_way(void)
{
    struct both x;

    for (int open = 0; open < 2; open++) {
        bool fine = meet(&x, NULL) && link_up(&x);
        struct mu_m_shard m = {.kind = 2, .at = 0};

        mu_bulk_open(x.at_call.bulk, open);
        mu_bulk_open(x.at_door.bulk, open);
        fine = fine && !mu_bulk_send(x.at_call.bulk, MU_MSG_shard, &m, needle, sizeof needle);
        PASS_UNTIL(x.at_door.msgs);
        TAP_OK(fine && x.at_door.msgs == 1 && between.saw == (open == 1), "%s can be read on the way",
               open ? "what is open" : "nothing that is encrypted");
        part(&x);
    }
}

static void changed(void)
{
    static const struct {
        const char *what;
        bool open;
        unsigned at;
    } rows[] = {
        {"encrypted bytes", false, 300},
        {"open bytes", true, 300},
        {"the length of what is encrypted", false, 0},
        {"the length of what is open", true, 4},
        {"a message about bytes", true, 30},
    };

    for (size_t i = 0; i < MU_COUNT(rows); i++) {
        struct both x;
        bool fine = meet(&x, NULL) && link_up(&x);
        const char *log;

        mu_bulk_open(x.at_call.bulk, rows[i].open);
        mu_bulk_open(x.at_door.bulk, rows[i].open);
        PASS_UNTIL(!mu_bulk_pending(x.at_call.bulk));
        for (int k = 0; k < 20; k++) {
            pass_on();
            spin(1);
        }
        between.change_at = between.passed[0] + rows[i].at;
        between.change = 1;
        fine = fine && !send_shard(&x.at_call, 0, 1000) && !send_shard(&x.at_call, 1, 1000);
        PASS_UNTIL(x.at_door.downs && x.at_call.downs);
        log = logged();
        TAP_OK(fine && !x.at_door.msgs && x.at_door.downs == 1 && x.at_call.downs == 1 && lines(log) == 1 &&
                   strstr(log, "changed on its way"),
               "%s that somebody changes: refused, and said", rows[i].what);
        part(&x);
    }
}

static void refused(void)
{
    struct both x;
    bool fine = meet(&x, NULL) && link_up(&x);
    const char *log;

    mu_bulk_open(x.at_call.bulk, true);
    fine = fine && !send_shard(&x.at_call, 0, 1000);
    PASS_UNTIL(x.at_door.downs);
    log = logged();
    TAP_OK(fine && !x.at_door.msgs && x.at_door.downs == 1 && strstr(log, "wire=encrypted"),
           "what is open goes nowhere where all is to be encrypted: %s", log);
    part(&x);

    fine = meet(&x, NULL);
    between.change_at = between.passed[0] + 6;
    between.change = 3;
    fine = fine && link_up(&x) && !send_shard(&x.at_call, 0, 1000);
    PASS_UNTIL(x.at_door.downs);
    log = logged();
    TAP_OK(fine && !x.at_door.msgs && strstr(log, "version 2 between drains, not 1: all hosts of a job need the same"),
           "another version: %s", log);
    part(&x);

    fine = meet(&x, NULL);
    x.at_door.bulk = mu_bulk_new(MU_STEAL(x.door.conn, NULL), &desk, &calls, &x.at_door);
    x.call.end.link = mu_link_new_tls(MU_STEAL(x.call.conn, NULL), on_msg, on_down, &x.call.end);
    fine = fine && x.at_door.bulk && x.call.end.link && !send_release(x.call.end.link, 0);
    PASS_UNTIL(x.at_door.downs && x.call.end.downs);
    log = logged();
    TAP_OK(fine && x.at_door.downs == 1 && x.call.end.downs == 1 && strstr(log, "as drains of this release do"),
           "a drain from before there were records: %s", log);
    part(&x);
}

static void ends(void)
{
    struct both x;
    bool fine = meet(&x, NULL) && link_up(&x);

    TAP_OK(send_shard(&x.at_call, 0, 0) == 0 &&
               mu_bulk_send(x.at_call.bulk, MU_MSG_shard, &(struct mu_m_shard){.kind = 1}, &desk, sizeof desk.in) ==
                   MUSTER_EARG,
           "a message that is too long is refused, and harms nobody");
    fine = fine && !send_shard(&x.at_call, 1, 5);
    PASS_UNTIL(!mu_bulk_pending(x.at_call.bulk));
    mu_bulk_free(MU_STEAL(x.at_call.bulk, NULL));
    PASS_UNTIL(x.at_door.downs);
    TAP_OK(fine && x.at_door.downs == 1 && x.at_door.msgs == 2 && !x.at_door.disorder && !x.at_call.downs,
           "the end is told to the other side once, behind what was sent");
    part(&x);

    fine = meet(&x, NULL) && link_up(&x);
    x.at_door.free_in_msg = true;
    fine = fine && !send_shard(&x.at_call, 0, 100) && !send_shard(&x.at_call, 1, 300000);
    PASS_UNTIL(x.at_call.downs);
    TAP_OK(fine && x.at_door.msgs == 1 && !x.at_door.downs && x.at_call.downs == 1, "freed by its callback");
    part(&x);
    mu_bulk_free(NULL);
    TAP_OK(!*logged(), "which is nobody's fault");
}

int main(void)
{
    char dir[] = "/tmp/muster-test-bulk-XXXXXX";

    begin_tests(dir);
    records();
    any_size();
    on_the_way();
    changed();
    refused();
    ends();
    return end_tests(dir);
}
