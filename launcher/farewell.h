/* What an ending controller says to agents that come too late: without it one that was just being started would look
 * for a controller for a minute. */
#ifndef MU_LAUNCHER_FAREWELL_H
#define MU_LAUNCHER_FAREWELL_H

struct mu_tls_conn;
struct mu_farewell;

struct mu_farewell *mu_farewell_new(void);   /* NULL: out of memory */
void mu_farewell_free(struct mu_farewell *); /* NULL is fine */
/* Takes the connection over. */
void mu_farewell_take(struct mu_farewell *, struct mu_tls_conn *);

#endif
