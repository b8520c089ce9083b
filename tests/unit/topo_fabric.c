#include "topo/fabric.h"

#include <string.h>

#include "runtime/base/buf.h"
#include "runtime/base/clean.h"
#include "tests/unit/tap.h"

/* As ibnetdiscover prints it: two leaves, one spine; a host with two adapters, one named by its device only, one by the
 * vendor, an aggregation node, a description with a blank and brackets. */
static const char *const text =
    "#\n# Topology file: generated on Mon Jan  1 00:00:00 2024\n#\n"
    "# Initiated from node 0002c90300001000 port 0002c90300001001\n\n"
    "vendid=0x2c9\ndevid=0xd2f0\nsysimgguid=0x1\nswitchguid=0x1(1)\n"
    "Switch\t41 \"S-0000000000000001\"\t\t# \"MF0;leaf1:MQM8700/U1\" enhanced port 0 lid 1 lmc 0\n"
    "[1]\t\"H-0000000000001000\"[1](1001) \t\t# \"n1 mlx5_0\" lid 4 4xHDR\n"
    "[2]\t\"H-0000000000003000\"[1](3001) \t\t# \"mlx5_0\" lid 6 4xHDR\n"
    "[3]\n"
    "[40]\t\"S-0000000000000003\"[1]\t\t# \"spine\" lid 3 4xHDR\n"
    "[41]\t\"H-0000000000009000\"[1](9001) \t\t# \"Mellanox Technologies Aggregation Node\" lid 9 4xHDR\n\n"
    "vendid=0x2c9\ndevid=0xd2f0\nsysimgguid=0x2\nswitchguid=0x2(2)\n"
    "Switch\t40 \"S-0000000000000002\"\t\t# \"leaf2\" base port 0 lid 2 lmc 0\n"
    "[1]\t\"H-0000000000002000\"[1](2001) \t\t# \"n1 mlx5_1\" lid 5 4xHDR\n"
    "[2][ext 7]\t\"H-0000000000004000\"[1](4001) \t\t# \"MT4123 ConnectX6   Mellanox Technologies\" lid 7 4xHDR\n"
    "[40]\t\"S-0000000000000003\"[2]\t\t# \"spine\" lid 3 4xHDR\n\n"
    "switchguid=0x3(3)\n"
    "Switch\t40 \"S-0000000000000003\"\t\t# \"spine\" base port 0 lid 3 lmc 0\n"
    "[1]\t\"S-0000000000000001\"[40]\t\t# \"MF0;leaf1:MQM8700/U1\" lid 1 4xHDR\n"
    "[2]\t\"S-0000000000000002\"[40]\t\t# \"leaf2\" lid 2 4xHDR\n\n"
    "caguid=0x9000\nCa\t1 \"H-0000000000009000\"\t\t# \"Mellanox Technologies Aggregation Node\"\n"
    "[1](9001) \t\"S-0000000000000001\"[41]\t\t# lid 9 lmc 0 \"MF0;leaf1:MQM8700/U1\" lid 1 4xHDR\n\n"
    "caguid=0x2000\nCa\t1 \"H-0000000000002000\"\t\t# \"n1 mlx5_1\"\n"
    "[1](2001) \t\"S-0000000000000002\"[1]\t\t# lid 5 lmc 0 \"leaf2\" lid 2 4xHDR\n\n"
    "caguid=0x1000\nCa\t1 \"H-0000000000001000\"\t\t# \"n1 mlx5_0\"\n"
    "[1](1001) \t\"S-0000000000000001\"[1]\t\t# lid 4 lmc 0 \"MF0;leaf1:MQM8700/U1\" lid 1 4xHDR\n\n"
    "caguid=0x3000\nCa\t1 \"H-0000000000003000\"\t\t# \"mlx5_0\"\n"
    "[1](3001) \t\"S-0000000000000001\"[2]\t\t# lid 6 lmc 0 \"MF0;leaf1:MQM8700/U1\" lid 1 4xHDR\n\n"
    "caguid=0x4000\nCa\t1 \"H-0000000000004000\"\t\t# \"MT4123 ConnectX6   Mellanox Technologies\"\n"
    "[1](4001) \t\"S-0000000000000002\"[2]\t\t# lid 7 lmc 0 \"leaf2\" lid 2 4xHDR\n";

static int parse(const char *s, struct mu_fabric **f, struct mu_err *err)
{
    mu_auto_free char *exact = malloc(strlen(s) + 1); /* the sanitizer sees what is read behind it */

    if (!exact)
        return MUSTER_ENOMEM;
    memcpy(exact, s, strlen(s));
    return mu_fabric_parse(exact, strlen(s), "f", f, err);
}

static void discovered(void)
{
    struct mu_fabric *f = NULL;
    struct mu_err err = {0};
    int rc = parse(text, &f, &err);

    TAP_OK(!rc, "ibnetdiscover's text is read: %s", err.text);
    if (rc)
        return;
    int n1 = mu_fabric_find_host(f, "n1"), other = mu_fabric_find_host(f, "H-0000000000003000"),
        vendor = mu_fabric_find_host(f, "H-0000000000004000");
    TAP_OK(mu_fabric_nhosts(f) == 3 && n1 >= 0 && other >= 0 && vendor >= 0,
           "adapters without a host's name are hosts of their own");
    const struct mu_fabric_host *h = mu_fabric_host(f, n1);
    const int *nic = mu_fabric_nics(f) + h->first;
    TAP_OK(h->nnics == 2 && !strcmp(mu_fabric_node(f, nic[0])->name, "n1 mlx5_0") &&
               !strcmp(mu_fabric_node(f, nic[1])->name, "n1 mlx5_1") && mu_fabric_node(f, nic[1])->guid == 0x2000,
           "a host has its adapters in the order of their names");
    const struct mu_fabric_node *leaf = mu_fabric_node(f, mu_fabric_ports(f)[mu_fabric_node(f, nic[0])->first].peer);
    TAP_OK(!strcmp(leaf->name, "MF0;leaf1:MQM8700/U1") && leaf->rank == 1 && leaf->nout == 4 && leaf->guid == 1,
           "a leaf with its name, rank and cables; an empty port is none");
    int spine = 0, aggregation = 0;
    for (int i = 0; i < mu_fabric_nnodes(f); i++) {
        spine += !strcmp(mu_fabric_node(f, i)->name, "spine") && mu_fabric_node(f, i)->rank == 2;
        aggregation += mu_fabric_node(f, i)->kind == MU_FABRIC_OTHER;
    }
    TAP_OK(spine == 1 && aggregation == 1 && mu_fabric_nsubnets(f) == 1, "spine, aggregation node, one subnet");
    mu_fabric_free(f);
}

static void nameless(void)
{
    struct mu_fabric *f = NULL;
    struct mu_err err = {0};
    int rc = parse("Switch 8 \"s\"\n[1] \"H-1\"[1]\n[2] \"H-2\"[1]\n[3] \"H-3\"[1]\n[4] \"H-4\"[1]\n"
                   "[5] \"H-5\"[1]\n[6] \"H-6\"[1]\n[7] \"H-7\"[1]\n"
                   "Ca 1 \"H-1\" # \"localhost mlx5_0\"\n[1] \"s\"[1]\n"
                   "Ca 1 \"H-2\" # \"localhost mlx5_0\"\n[1] \"s\"[2]\n"
                   "Ca 1 \"H-3\" # \"localhost.localdomain HCA-1\"\n[1] \"s\"[3]\n"
                   "Ca 1 \"H-4\" # \"localhosts mlx5_0\"\n[1] \"s\"[4]\n"
                   "Ca 1 \"H-5\" # \"localhost4 mlx5_0\"\n[1] \"s\"[5]\n"
                   "Ca 1 \"H-6\" # \"localhost6.localdomain6 mlx5_0\"\n[1] \"s\"[6]\n"
                   "Ca 1 \"H-7\" # \"localhost44 mlx5_0\"\n[1] \"s\"[7]\n",
                   &f, &err);
    int unnamed = 0;
    for (int h = 0; !rc && h < mu_fabric_nhosts(f); h++)
        unnamed += mu_fabric_host(f, h)->unnamed;
    TAP_OK(!rc && mu_fabric_nhosts(f) == 7 && unnamed == 5 && mu_fabric_find_host(f, "H-1") >= 0 &&
               mu_fabric_find_host(f, "H-6") >= 0 && mu_fabric_find_host(f, "localhosts") >= 0 &&
               mu_fabric_find_host(f, "localhost44") >= 0,
           "adapters of 'localhost' are not all in one host: %s", err.text);
    mu_fabric_free(f);
}

static void two_subnets(void)
{
    struct mu_fabric *f = NULL;
    struct mu_err err = {0};
    int rc = parse("Switch 4 \"a\"\n[1] \"h\"[1]\n[2] \"x\"[1]\nSwitch 4 \"b\"\n[1] \"h\"[2]\n[2] \"y\"[1]\n"
                   "Hca 2 \"h\"\n[1] \"a\"[1]\n[2] \"b\"[1]\nHca 1 \"x\"\n[1] \"a\"[2]\nHca 1 \"y\"\n[1] \"b\"[2]\n",
                   &f, &err);
    TAP_OK(!rc && mu_fabric_nsubnets(f) == 2 && mu_fabric_nhosts(f) == 3, "two subnets that share a host: %s",
           err.text);
    mu_fabric_free(f);
}

static void slurm(void)
{
    struct mu_fabric *f = NULL;
    struct mu_err err = {0};
    int rc = parse("# tree\nSwitchName=s0 Nodes=n[0-3,08-10],m\nswitchname=s1 LinkSpeed=100 \\\n  nodes=k[1-2]x[0-1]\n"
                   "SwitchName=top Switches=s[0-1] # all\n",
                   &f, &err);
    TAP_OK(!rc && mu_fabric_nhosts(f) == 12 && mu_fabric_find_host(f, "n08") >= 0 &&
               mu_fabric_find_host(f, "n3") >= 0 && mu_fabric_find_host(f, "m") == 7 &&
               mu_fabric_find_host(f, "k2x0") >= 0,
           "topology.conf: ranges, leading zeros, comments, a line that goes on: %s", err.text);
    int rank1 = 0, rank2 = 0;
    for (int i = 0; !rc && i < mu_fabric_nnodes(f); i++) {
        rank1 += mu_fabric_node(f, i)->rank == 1 && mu_fabric_node(f, i)->kind == MU_FABRIC_SWITCH;
        rank2 += mu_fabric_node(f, i)->rank == 2;
    }
    TAP_OK(rank1 == 2 && rank2 == 1, "its switches have their ranks");
    mu_fabric_free(f);
    f = NULL;
    rc = parse("\xef\xbb\xbfSwitchName=s0 Nodes=n[0-3]\r\n", &f, &err);
    TAP_OK(!rc && mu_fabric_nhosts(f) == 4, "an editor may have put a mark before it");
    mu_fabric_free(f);
}

#define SW "Switch 4 \"a\"\n[1] \"h\"[1]\n"
#define LONG16 "0123456789abcdef"
#define LONG64 LONG16 LONG16 LONG16 LONG16
#define LONG LONG64 LONG64 LONG64 LONG64
#define CA "Ca 1 \"h\"\n[1] \"a\"[1]\n"
static const struct {
    const char *in, *err;
} bad[] = {
    {"", "f: is empty"},
    {"hello\n", "f: is neither what ibnetdiscover prints nor a topology.conf (line 1)"},
    {"# nothing\n",
     "f: no Switch, no Ca and no SwitchName in it: it is neither what ibnetdiscover prints nor a topology.conf"},
    {"Switch 40 \"a\"\n[300] \"h\"[1]\n", "f:2: port 300 of a, which has 40 ports"},
    {"Switch 40 \"a\"\n[300]\n", "f:2: port 300 of a, which has 40 ports"},
    {"Switch 4 \"a\"\n[1] \"h\"[2]\n" CA, "f:2: port 2 of h, which has 1 port"},
    {"Switch 4 \"" LONG "\"\n", "f:1: a name of more than 255 bytes"},
    {"Switch 4 \"a\" # \"" LONG "\"\n", "f:1: a name of more than 255 bytes"},
    {"Switch 4 \"a\"\n[1] \"" LONG "\"[1]\n", "f:2: a name of more than 255 bytes"},
    {SW "Ca 1 \"h\"\n[1] \"a\"[1", "f: is truncated (line 4 has no end)"},
    {SW, "f: is truncated (h is at the end of a cable, but not described)"},
    {SW "Ca 1 \"h\"\n", "f: is truncated (h has no cable, but a has one to it)"},
    {SW CA "Switch 4 \"a\"\n", "f:5: a is there twice, first on line 1"},
    {SW CA CA, "f:5: h is there twice, first on line 3"},
    {SW "[1] \"h\"[1]\n" CA, "f:3: port 1 of a is there twice, first on line 2"},
    {SW "[2] \"h\"[1]\n" CA, "f:3: port 2 of a is cabled to port 1 of h, which line 5 denies"},
    {"Switch 4 \"a\"\n[1] \"a\"[1]\n", "f:2: port 1 of a is cabled to itself"},
    {"[1] \"a\"[1]\n", "f:1: a cable before the first Switch or Ca"},
    {"Switch x \"a\"\n", "f:1: expected the number of ports"},
    {"Switch 4 a\n", "f:1: expected a name in quotes"},
    {"Switch 4 \"a\"\n[x]\n", "f:2: expected a port such as [1]"},
    {"Switch 4 \"a\"\n[0]\n", "f:2: expected a port such as [1]"},
    {"Switch 4 \"a\"\n[99999999999] \"h\"[1]\n", "f:2: expected a port such as [1]"},
    {"Switch 4 \"a\"\n[1] h[1]\n", "f:2: expected the name of the other end in quotes"},
    {"Switch 4 \"a\"\n[1] \"h\"\n", "f:2: expected the port of the other end"},
    {"Switch 4 \"a\"\n?\n", "f:2: is neither a cable nor the head of a Switch or Ca"},
    {"Switch 4 \"a\"\n", "f: no host in it"},
    {"SwitchName=a Nodes=n\nSwitchName=b Nodes=n\n", "f:2: n is below a and below b"},
    {"SwitchName=a Nodes=n\nSwitchName=a Nodes=m\n", "f:2: a is there twice, first on line 1"},
    {"SwitchName=a Switches=b\nSwitchName=b Switches=a\n", "f: a cycle: switch a is below itself"},
    {"SwitchName=a Switches=a\n", "f: a cycle: switch a is below itself"},
    {"SwitchName=a Nodes=n Switches=b\n", "f: switch b is spoken of, but has no line of its own"},
    {"SwitchName=a Nodes=n[1-\n", "f:1: 'n[1-' is not a list of names such as n[1-3,7],m"},
    {"SwitchName=a Nodes=n[3-1]\n", "f:1: '3-1' is not a list of names such as n[1-3,7],m"},
    {"SwitchName=a Nodes=n[0-999999][0-9]\n", "f:1: more than 1048576 names"},
    {"SwitchName=a Nodes=n[0-99999999]\n", "f:1: more than 1048576 names"},
    {"SwitchName=a Nodes=,\n", "f:1: '' is not a list of names such as n[1-3,7],m"},
    {"SwitchName=a Nodes=n \\\n", "f: is truncated (line 1 goes on)"},
    {"SwitchName=a Nodes\n", "f:1: expected KEY=VALUE"},
    {"SwitchName=a Hosts=n\n", "f:1: expected SwitchName, Nodes, Switches or LinkSpeed, not 'Hosts'"},
    {"SwitchName=s[0-1] Nodes=n\n", "f:1: several switches on a line"},
    {"BlockName=b1 Nodes=n[0-3]\n", "f:1: block topologies are not understood, only trees of switches"},
    {"SwitchName=a Nodes=b\nSwitchName=b Nodes=c\n", "f:2: b is there twice, first on line 1"},
};

int main(void)
{
    discovered();
    nameless();
    two_subnets();
    slurm();
    for (size_t i = 0; i < MU_COUNT(bad); i++) {
        struct mu_fabric *f = NULL;
        struct mu_err err = {0};
        int rc = parse(bad[i].in, &f, &err);
        TAP_OK(rc == MUSTER_EARG && !f && !strcmp(err.text, bad[i].err), "refused: %s", bad[i].err);
        if (strcmp(err.text, bad[i].err))
            printf("# got %d: %s\n", rc, err.text);
        mu_fabric_free(f);
    }
    /* Whatever its end, a file is taken or refused. */
    int taken = 0;
    for (size_t n = 0; n < strlen(text); n++) {
        struct mu_fabric *f = NULL;
        mu_auto_free char *cut = strndup(text, n);
        taken += cut && !parse(cut, &f, NULL);
        mu_fabric_free(f);
    }
    TAP_OK(!taken, "a file that is cut short anywhere is refused (%d were not)", taken);
    return tap_done();
}
