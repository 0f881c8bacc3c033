/*
 * What tells flows apart (rte_acl) and measures them (rte_meter).
 */
#ifndef DPDK_FLOWS_H
#define DPDK_FLOWS_H

#include <stdint.h>

struct rte_acl_ctx;

/*
 * What a packet is, as the classifier reads it: every number of several octets in
 * network order. DPDK reads the first octet alone and then four at a time.
 */
struct dpdk_acl_key {
	uint8_t protocol;
	uint8_t unused[3];
	uint8_t source[16];
	uint8_t destination[16];
	uint16_t source_port;
	uint16_t destination_port;
	uint32_t word; /* any bits that rules may ask for */
};

/* What a packet has to be like. Numbers are in host order, addresses in network order. */
struct dpdk_acl_rule {
	uint8_t source[16];
	uint8_t destination[16];
	uint8_t source_length;      /* 0..=128 */
	uint8_t destination_length; /* 0..=128 */
	uint8_t protocol;
	uint8_t protocol_mask;
	uint16_t source_port_first;
	uint16_t source_port_last;
	uint16_t destination_port_first;
	uint16_t destination_port_last;
	uint32_t word;
	uint32_t word_mask;
};

/*
 * A classifier with these rules, of which the first that matches counts. Returns NULL and
 * writes a positive errno. `name` must be of no other classifier. At most
 * DPDK_ACL_MOST_RULES; its memory is of DPDK's heap.
 */
#define DPDK_ACL_MOST_RULES 1048576
struct rte_acl_ctx *dpdk_acl_build(const char *name, const struct dpdk_acl_rule *rules,
				   uint32_t count, int node, int *error);
void dpdk_acl_free(struct rte_acl_ctx *acl);
/* For each key the number of its rule, counted from 1; 0: none. At most DPDK_ACL_MOST_KEYS. */
#define DPDK_ACL_MOST_KEYS 64
int dpdk_acl_classify(const struct rte_acl_ctx *acl, const struct dpdk_acl_key *keys,
		      uint32_t *rules, uint32_t count);

/* Parameters of a marker: rte_meter's two profiles have one layout. No period may be 0. */
struct dpdk_meter_profile {
	uint64_t committed_burst;
	uint64_t other_burst;
	uint64_t committed_period;
	uint64_t committed_octets_per_period;
	uint64_t other_period;
	uint64_t other_octets_per_period;
};

/* Two token buckets, likewise. */
struct dpdk_meter {
	uint64_t committed_time;
	uint64_t other_time;
	uint64_t committed_tokens;
	uint64_t other_tokens;
};

#define DPDK_METER_RFC2698 0
#define DPDK_METER_RFC4115 1

/* The colour of a packet: 0 green, 1 yellow, 2 red. `colour` is that which it came with. */
uint32_t dpdk_meter_check(uint32_t kind, struct dpdk_meter *meter,
			  const struct dpdk_meter_profile *profile, uint64_t now, uint32_t octets,
			  uint32_t colour);

#endif
