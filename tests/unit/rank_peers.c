/* Which nodes protect one another: none of one rack where that can be. */
#include "runtime/rank/peers.h"
#include "tests/unit/tap.h"

enum { MOST = 64 };

/* The most nodes of one rack that one of so many groups has. */
static uint32_t worst(const uint64_t *rack, uint32_t nodes, uint32_t groups)
{
    uint32_t turn[MOST], most = 0, used = 0;

    mu_rank_peers_order(rack, nodes, turn);
    for (uint32_t i = 0; i < nodes; i++) {
        uint32_t same = 0;

        used += turn[i] < nodes;
        for (uint32_t k = 0; k < nodes; k++) {
            same += rack[k] == rack[i] && turn[k] % groups == turn[i] % groups;
            used += k != i && turn[k] == turn[i] ? 1000 : 0;
        }
        most = same > most ? same : most;
    }
    return used == nodes ? most : 9999;
}

int main(void)
{
    const uint64_t none[6] = {0}, split[8] = {1, 2, 1, 2, 1, 2, 1, 2}, rows[8] = {1, 1, 2, 2, 3, 3, 4, 4};
    uint32_t turn[MOST];
    uint64_t many[MOST];
    bool same = true;

    mu_rank_peers_order(none, 6, turn);
    for (uint32_t i = 0; i < 6; i++)
        same &= turn[i] == i;
    TAP_OK(same, "without racks as they are numbered");
    TAP_OK(worst(split, 8, 4) == 1, "pairs of two racks whose nodes take turns: one of each");
    TAP_OK(worst(rows, 8, 4) == 1, "pairs of four racks");
    for (uint32_t i = 0; i < MOST; i++)
        many[i] = 1 + i * 7 % 16;
    TAP_OK(worst(many, MOST, 4) == 1, "64 nodes in 16 racks of 4, four groups: one of a rack in each");
    for (uint32_t i = 0; i < MOST; i++)
        many[i] = i % 3 ? 1 + i % 5 : 0;
    many[0] = 77;
    uint32_t got = 0;
    mu_rank_peers_order(many, MOST, turn);
    for (uint32_t i = 0; i < MOST; i++)
        got += turn[i];
    TAP_OK(got == MOST * (MOST - 1) / 2, "some without: all have a turn of their own");
    return tap_done();
}
