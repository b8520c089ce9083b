/* gloo over its TCP transport as a worker: gloo DIR RANK SIZE. */
#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/barrier.h>
#include <gloo/broadcast.h>
#include <gloo/math.h>
#include <gloo/reduce_scatter.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>

#include <map>
#include <memory>

#include "tests/peers/others/worker.h"

static std::shared_ptr<gloo::rendezvous::Context> context;
/* Made once a buffer and size: it connects its ranks when it is. Now and then it is wrong from 1 MiB on: a rank moves its
 * result to the front of the buffer while that is still being sent. */
static std::map<std::pair<float *, size_t>, std::unique_ptr<gloo::ReduceScatterHalvingDoubling<float>>> scatters;

static int reduce_scatter(float *send, float *recv, size_t n)
{
    auto &algorithm = scatters[{send, n}];

    if (!algorithm)
        algorithm.reset(new gloo::ReduceScatterHalvingDoubling<float>(context, {send}, (int)n * context->size,
                                                                      std::vector<int>(context->size, (int)n)));
    algorithm->run();
    memcpy(recv, send, n * sizeof(float));
    return 0;
}

static int call(int op, float *send, float *recv, size_t n)
{
    if (op == REDUCE_SCATTER)
        return reduce_scatter(send, recv, n);
    if (op == ALLREDUCE) {
        gloo::AllreduceOptions o(context);
        o.setOutput(recv, n);
        o.setReduceFunction([](void *c, const void *a, const void *b, size_t m) { gloo::sum<float>(c, a, b, m); });
        gloo::allreduce(o);
    } else if (op == ALLGATHER) {
        gloo::AllgatherOptions o(context);
        o.setInput(send, n);
        o.setOutput(recv, n * context->size);
        gloo::allgather(o);
    } else {
        gloo::BroadcastOptions o(context);
        o.setOutput(recv, n);
        o.setRoot(0);
        gloo::broadcast(o);
    }
    return 0;
}

static void barrier(void)
{
    gloo::BarrierOptions o(context);
    gloo::barrier(o);
}

static double most(double v)
{
    gloo::AllreduceOptions o(context);
    o.setOutput(&v, 1);
    o.setReduceFunction([](void *c, const void *a, const void *b, size_t m) { gloo::max<double>(c, a, b, m); });
    gloo::allreduce(o);
    return v;
}

static void put(int way, float *p)
{
    for (auto i = scatters.begin(); i != scatters.end();)
        i = i->first.first == p ? scatters.erase(i) : std::next(i);
    worker_put(way, p);
}

int main(int argc, char **argv)
{
    struct worker w = {};

    if (argc != 4)
        return 2;
    w.name = "gloo";
    w.rank = atoi(argv[2]);
    w.size = atoi(argv[3]);
    w.call = call;
    w.barrier = barrier;
    w.most = most;
    w.get = worker_get;
    w.put = put;
    gloo::rendezvous::FileStore store(std::string(argv[1]) + "/store");
    gloo::transport::tcp::attr where("127.0.0.1");
    auto device = gloo::transport::tcp::CreateDevice(where);
    context = std::make_shared<gloo::rendezvous::Context>(w.rank, w.size);
    context->connectFullMesh(store, device);
    return worker_main(&w, argv[1]);
}
