// Frames as a network card hands them up: UDP over IPv4 with checksums filled in, of many flows, in turn. `cargo xtask bench
// balance` runs it as BPF_PROG_TEST_RUN with live frames, and they leave by an interface without having been packets of
// this host's stack. Never shipped.
//
// The host that gets a frame changes it in place, and its page comes back for the next one: so all headers are written
// each time.

#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) __typeof__(value) *name

static void *(*lookup)(const void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;

// Ethernet, IPv4 and UDP: five words of eight bytes, and two more bytes, which are the UDP checksum.
enum { WORDS = 5, HEADERS = WORDS * 8 + 2, SOURCE_PORT = 34, CHECKSUM = 40 };

// `integration/src/measure/balance/frames.rs` writes it: 64 bytes. The checksum is that of source port 0.
struct plan {
	__u64 words[WORDS];
	__u16 checksum;
	__u16 first_port; // Of the host's byte order, like all that follows.
	__u32 flows, ifindex, next;
	__u64 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plan);
} PLAN SEC(".maps");

SEC("xdp") int generate(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	__u32 only = 0;
	struct plan *plan = lookup(&PLAN, &only);
	if (!plan || data + HEADERS > end)
		return XDP_ABORTED;
	__u64 *words = data;
	for (int i = 0; i < WORDS; i++)
		words[i] = plan->words[i];
	__u16 port = __builtin_bswap16(plan->first_port + plan->next);
	plan->next = plan->next + 1 < plan->flows ? plan->next + 1 : 0;
	*(__u16 *)(data + SOURCE_PORT) = port;
	__u32 sum = (__u16)~plan->checksum + port;
	sum = (sum & 0xffff) + (sum >> 16);
	__u16 checksum = ~sum;
	*(__u16 *)(data + CHECKSUM) = checksum ? checksum : 0xffff;
	return redirect(plan->ifindex, 0);
}

// Where datagrams are sent once a balancer has translated them: `TRANSLATED` of `integration/src/measure/balance/way.rs`.
enum { DESTINATION_PORT = 36, TRANSLATED = 9001 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} ARRIVED SEC(".maps");

// On the other end of a veth pair, which drops what XDP sends unless it has a program of its own: counts translated
// datagrams, and drops them. One CPU comes here.
SEC("xdp") int sink(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	__u32 only = 0;
	__u64 *arrived = lookup(&ARRIVED, &only);
	if (!arrived || data + HEADERS > end)
		return XDP_PASS;
	if (*(__u16 *)(data + DESTINATION_PORT) != __builtin_bswap16(TRANSLATED))
		return XDP_PASS;
	*arrived += 1;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
