/*
 * DPDK's own tables, to be measured against. The gateway does not use them, so
 * they are an object of their own in the archive: a program that calls none of
 * these is not linked with the libraries behind them.
 *
 * Addresses are 16 octets in network order. DPDK 24.11 gave them a type with the
 * same octets; a pointer to them converts to either.
 */
#ifndef DPDK_PEERS_H
#define DPDK_PEERS_H

#include <stdint.h>

struct rte_fib6;
struct rte_hash;
struct rte_lpm6;

/* Which code looks up in a FIB. */
#define DPDK_FIB6_LOOKUP_DEFAULT 0 /* the widest that EAL was allowed */
#define DPDK_FIB6_LOOKUP_SCALAR 1
#define DPDK_FIB6_LOOKUP_AVX512 2

/* Most keys in a bulk lookup of a hash table; DPDK does not check it. */
#define DPDK_HASH_LOOKUP_MOST 64

/*
 * Those that create return NULL and set rte_errno; `node` is a NUMA node or -1.
 * Those that add, delete or select return 0 or a negative errno.
 */

/* A trie with next hops of four octets, the lowest bit of which is DPDK's own. */
struct rte_fib6 *dpdk_fib6_create(const char *name, uint32_t max_routes, uint32_t tbl8s,
				  uint32_t miss, int node);
void dpdk_fib6_free(struct rte_fib6 *fib);
int dpdk_fib6_select(struct rte_fib6 *fib, uint32_t lookup);
int dpdk_fib6_add(struct rte_fib6 *fib, const uint8_t (*prefix)[16], uint8_t length,
		  uint32_t next_hop);
int dpdk_fib6_delete(struct rte_fib6 *fib, const uint8_t (*prefix)[16], uint8_t length);
/* At most INT_MAX of them. */
int dpdk_fib6_lookup(struct rte_fib6 *fib, const uint8_t (*addresses)[16], uint64_t *next_hops,
		     uint32_t count);

struct rte_lpm6 *dpdk_lpm6_create(const char *name, uint32_t max_routes, uint32_t tbl8s, int node);
void dpdk_lpm6_free(struct rte_lpm6 *lpm);
int dpdk_lpm6_add(struct rte_lpm6 *lpm, const uint8_t (*prefix)[16], uint8_t length,
		  uint32_t next_hop);
int dpdk_lpm6_delete(struct rte_lpm6 *lpm, const uint8_t (*prefix)[16], uint8_t length);
/* -1 where there is no route. */
int dpdk_lpm6_lookup(const struct rte_lpm6 *lpm, const uint8_t (*addresses)[16],
		     int32_t *next_hops, uint32_t count);

/*
 * Keys of eight octets. With `lock_free`, one thread may look up while another changes
 * the table; who deletes must say so too, when no thread looks up.
 */
struct rte_hash *dpdk_hash_create(const char *name, uint32_t entries, int node, int lock_free);
void dpdk_hash_free(struct rte_hash *hash);
int dpdk_hash_add(struct rte_hash *hash, uint64_t key, uintptr_t value);
int dpdk_hash_delete(struct rte_hash *hash, uint64_t key, int lock_free);
/* A bit of `hits` for each key that is there; only then is its value written. */
int dpdk_hash_lookup(const struct rte_hash *hash, const uint64_t *const *keys, uint32_t count,
		     uint64_t *hits, uintptr_t *values);

#endif
