// The path of an established IPv4 nat flow in plain C, beside which `cargo xtask bench datapath` measures the Rust one. It
// does the same work on maps of the same shapes, and nothing else: no ARP, no IPv6, no new flows. Never shipped.
//
// The structures are those of `vipd-datapath-common`, whose sizes the bench compares when it fills the maps.

#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) __typeof__(value) *name
#define always_inline inline __attribute__((always_inline))

static void *(*lookup)(const void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*store)(struct __sk_buff *, __u32 at, const void *from, __u32 length,
		     __u64 flags) = (void *)BPF_FUNC_skb_store_bytes;
static long (*l4_csum_replace)(struct __sk_buff *, __u32 at, __u64 from, __u64 to,
			       __u64 flags) = (void *)BPF_FUNC_l4_csum_replace;
static long (*pull_data)(struct __sk_buff *, __u32 length) = (void *)BPF_FUNC_skb_pull_data;
static long (*redirect_neigh)(__u32 ifindex, void *params, int length,
			      __u64 flags) = (void *)BPF_FUNC_redirect_neigh;
static __u64 (*boot_ns)(void) = (void *)BPF_FUNC_ktime_get_boot_ns;

// --- vipd_datapath_common ---------------------------------------------------------------------

struct address {
	__u32 words[4];
};

enum { OPEN = 1, LOCAL = 1 << 1, HAND = 1 << 4, BALANCED = 1 << 6 };

struct entry {
	struct address whose;
	__u64 epoch, until;
	__u32 ifindex, flags;
	__u8 mac[6], peer[6], reserved[4];
};

struct flow_key {
	__u64 words[5]; // source, destination, ports and protocol
};

enum { REASONS = 10 };
enum { REVERSE = 1, TO_HERE = 1 << 1, DSR = 1 << 2 };

struct half {
	__u64 proof;
	__u32 source[4], destination[4];
	__u32 ports, ifindex, flags;
	__u8 established, fin, peer_fin, reset;
	__u32 backend, service;
	__u64 seen, packets, bytes;
};

struct tally_key {
	__u32 service, backend;
};

struct tally {
	__u64 packets[2], bytes[2], flows, drops[REASONS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} GATE SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, struct entry);
} ADDRESSES SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1048576);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow_key);
	__type(value, struct half);
} FLOWS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct tally_key);
	__type(value, struct tally);
} TALLY SEC(".maps");

// --- the packet -------------------------------------------------------------------------------

enum { ETHERNET = 14, IPV4 = 20, TTL = ETHERNET + 8, PORTS = ETHERNET + IPV4, HEADERS = 94 };
enum { TCP = 6, UDP = 17, SYN = 2, FIN = 1, RST = 4, ACK = 16 };
enum { PASS = -1, DROP = 2, REDIRECT = 7, OTHERHOST = 3, VLAN_ID = 0xfff };

static always_inline __u32 word(const __u16 *at)
{
	return at[0] | (__u32)at[1] << 16;
}

static always_inline __u64 mapped(__u32 address)
{
	return 0xffff0000 | (__u64)address << 32;
}

static always_inline __u32 fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

static always_inline __u16 fold16(__u64 sum)
{
	sum = fold32(sum);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static always_inline __u64 proof(const struct flow_key *key)
{
	return key->words[0] * 0x9e3779b97f4a7c15 + key->words[1] * 0x6a09e667f3bcc909 +
	       key->words[2] * 0xbb67ae8584caa73b + key->words[3] * 0x3c6ef372fe94f82b +
	       key->words[4] * 0xa54ff53a5f1d36f1;
}

// Whether the destination is open here, by the entry and by the clock; 0: no.
static always_inline __u64 fence(struct __sk_buff *skb)
{
	const __u16 *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	if (start + (ETHERNET + IPV4) / 2 > end)
		return 0;
	__u64 key[2] = { 0, mapped(word(start + 15)) };
	struct entry *entry = lookup(&ADDRESSES, key);
	if (!entry || skb->pkt_type == OTHERHOST)
		return 0;
	__u32 flags = entry->flags;
	if (flags & HAND || !(flags & LOCAL) || !(flags & OPEN) || !(flags & BALANCED))
		return 0;
	__u64 now = boot_ns();
	__u32 zero = 0;
	__u64 *deadline = lookup(&GATE, &zero);
	if (!deadline || now >= *(volatile __u64 *)deadline)
		return 0;
	const __u32 *words = (const __u32 *)key, *whose = entry->whose.words;
	if (whose[3] != words[3] || whose[2] != words[2] || whose[1] || whose[0])
		return 0;
	return now;
}

static always_inline void count(const struct half *flow, __u64 packets, __u64 bytes)
{
	struct tally_key key = { flow->service, flow->backend };
	struct tally *tally = lookup(&TALLY, &key);
	if (tally) {
		tally->packets[flow->flags & REVERSE] += packets;
		tally->bytes[flow->flags & REVERSE] += bytes;
	}
}

SEC("classifier")
int vipd_ingress(struct __sk_buff *skb)
{
	if ((skb->vlan_present && skb->vlan_tci & VLAN_ID) || skb->protocol != 0x0008)
		return PASS;
	__u64 now = fence(skb);
	if (!now)
		return PASS;
	__u32 length = skb->len < HEADERS ? skb->len : HEADERS;
	if ((long)skb->data + length > (long)skb->data_end)
		pull_data(skb, length);
	const __u16 *start = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const __u16 *ip = start + ETHERNET / 2;
	if (ip + IPV4 / 2 > end)
		return DROP;
	__u8 hops = ip[4], protocol = ip[4] >> 8;
	// With options, or in pieces: not here.
	if ((ip[0] & 0xf) != 5 || ip[3] & 0xff3f || (protocol != TCP && protocol != UDP))
		return PASS;
	const __u16 *transport = ip + IPV4 / 2;
	__u8 tcp = 0;
	if (protocol == TCP) {
		if (transport + 10 > end)
			return DROP;
		tcp = transport[6] >> 8;
	} else if (transport + 4 > end) {
		return DROP;
	}
	__u32 source = word(ip + 6), destination = word(ip + 8), ports = word(transport);
	__u16 old = ip[4], checksum = ip[5];
	struct flow_key key = { { 0, mapped(source), 0, mapped(destination),
				  ports | (__u64)protocol << 32 } };
	struct half *flow = lookup(&FLOWS, &key);
	if (!flow || (tcp & (SYN | ACK)) == SYN || flow->flags & (TO_HERE | DSR))
		return PASS;
	struct half copy = *flow;
	__asm__ volatile("" ::: "memory");
	if (*(volatile __u64 *)&flow->proof != proof(&key))
		return DROP;

	__u64 packets = skb->gso_segs ? skb->gso_segs : 1, bytes = skb->len;
	*(volatile __u64 *)&flow->seen = now;
	flow->packets += packets;
	flow->bytes += bytes;
	if (tcp & (SYN | FIN | RST))
		return PASS;
	if (tcp && !copy.established)
		*(volatile __u8 *)&flow->established = 1;
	if (hops <= 1)
		return DROP;

	__u32 from = copy.source[3], to = copy.destination[3];
	__u64 moved = (__u64)(__u32)~source + (__u32)~destination + from + to;
	__u16 counted = (old & 0xff00) | (__u8)(hops - 1);
	checksum = ~fold16(moved + (__u16)~checksum + (__u32)~old + counted);
	__u64 header[2] = { counted | (__u64)checksum << 16 | (__u64)from << 32,
			    to | (__u64)copy.ports << 32 };
	__u32 at = PORTS + (protocol == TCP ? 16 : 6);
	__u64 zero = protocol == TCP ? 0 : BPF_F_MARK_MANGLED_0;
	if (store(skb, TTL, header, sizeof(header), 0) ||
	    l4_csum_replace(skb, at, 0, fold32(moved), zero | BPF_F_PSEUDO_HDR))
		return DROP;
	if (ports != copy.ports &&
	    l4_csum_replace(skb, at, 0, fold32((__u64)(__u32)~ports + copy.ports), zero))
		return DROP;
	redirect_neigh(copy.ifindex, 0, 0, 0);
	count(&copy, packets, bytes);
	return REDIRECT;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
