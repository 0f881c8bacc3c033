#include "peers.h"

#include <errno.h>
#include <stddef.h>

#include <rte_errno.h>
#include <rte_fib6.h>
#include <rte_hash.h>
#include <rte_lpm6.h>

_Static_assert(DPDK_FIB6_LOOKUP_DEFAULT == RTE_FIB6_LOOKUP_DEFAULT,
	       "the default has another number");
_Static_assert(DPDK_FIB6_LOOKUP_SCALAR == RTE_FIB6_LOOKUP_TRIE_SCALAR, "scalar has another number");
_Static_assert(DPDK_FIB6_LOOKUP_AVX512 == RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512,
	       "AVX-512 has another number");
_Static_assert(DPDK_HASH_LOOKUP_MOST == RTE_HASH_LOOKUP_BULK_MAX,
	       "bulk lookups have another length");
_Static_assert(sizeof(uintptr_t) == sizeof(void *), "a value does not fit a pointer");

struct rte_fib6 *dpdk_fib6_create(const char *name, uint32_t max_routes, uint32_t tbl8s,
				  uint32_t miss, int node)
{
	struct rte_fib6_conf conf = {
		.type = RTE_FIB6_TRIE,
		.default_nh = miss,
		.max_routes = (int)max_routes,
		.trie = { .nh_sz = RTE_FIB6_TRIE_4B, .num_tbl8 = tbl8s },
	};

	/* What fails without a number of its own is an allocation; so in all three. */
	rte_errno = ENOMEM;
	return rte_fib6_create(name, node, &conf);
}

void dpdk_fib6_free(struct rte_fib6 *fib)
{
	rte_fib6_free(fib);
}

int dpdk_fib6_select(struct rte_fib6 *fib, uint32_t lookup)
{
	return rte_fib6_select_lookup(fib, (enum rte_fib6_lookup_type)lookup);
}

int dpdk_fib6_add(struct rte_fib6 *fib, const uint8_t (*prefix)[16], uint8_t length,
		  uint32_t next_hop)
{
	return rte_fib6_add(fib, (const void *)prefix, length, next_hop);
}

int dpdk_fib6_delete(struct rte_fib6 *fib, const uint8_t (*prefix)[16], uint8_t length)
{
	return rte_fib6_delete(fib, (const void *)prefix, length);
}

int dpdk_fib6_lookup(struct rte_fib6 *fib, const uint8_t (*addresses)[16], uint64_t *next_hops,
		     uint32_t count)
{
	/* It only reads them; until 24.11 its type did not say so. */
	return rte_fib6_lookup_bulk(fib, (void *)(uintptr_t)addresses, next_hops, (int)count);
}

struct rte_lpm6 *dpdk_lpm6_create(const char *name, uint32_t max_routes, uint32_t tbl8s, int node)
{
	struct rte_lpm6_config config = {
		.max_rules = max_routes,
		.number_tbl8s = tbl8s,
	};

	rte_errno = ENOMEM;
	return rte_lpm6_create(name, node, &config);
}

void dpdk_lpm6_free(struct rte_lpm6 *lpm)
{
	rte_lpm6_free(lpm);
}

int dpdk_lpm6_add(struct rte_lpm6 *lpm, const uint8_t (*prefix)[16], uint8_t length,
		  uint32_t next_hop)
{
	return rte_lpm6_add(lpm, (const void *)prefix, length, next_hop);
}

int dpdk_lpm6_delete(struct rte_lpm6 *lpm, const uint8_t (*prefix)[16], uint8_t length)
{
	return rte_lpm6_delete(lpm, (const void *)prefix, length);
}

int dpdk_lpm6_lookup(const struct rte_lpm6 *lpm, const uint8_t (*addresses)[16],
		     int32_t *next_hops, uint32_t count)
{
	/* It only reads them; its type does not say so. */
	return rte_lpm6_lookup_bulk_func(lpm, (void *)(uintptr_t)addresses, next_hops, count);
}

struct rte_hash *dpdk_hash_create(const char *name, uint32_t entries, int node,
				  int lock_free)
{
	/* No hash function: DPDK's choice, which is CRC where the processor has it. */
	struct rte_hash_parameters parameters = {
		.name = name,
		.entries = entries,
		.key_len = sizeof(uint64_t),
		.socket_id = node,
		.extra_flag = lock_free ? RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF : 0,
	};

	rte_errno = ENOMEM;
	return rte_hash_create(&parameters);
}

void dpdk_hash_free(struct rte_hash *hash)
{
	rte_hash_free(hash);
}

int dpdk_hash_add(struct rte_hash *hash, uint64_t key, uintptr_t value)
{
	return rte_hash_add_key_data(hash, &key, (void *)value);
}

int dpdk_hash_delete(struct rte_hash *hash, uint64_t key, int lock_free)
{
	int32_t position = rte_hash_del_key(hash, &key);

	if (position < 0)
		return position;
	/* Nobody looks up meanwhile: there is no reader to wait for. */
	return lock_free ? rte_hash_free_key_with_position(hash, position) : 0;
}

int dpdk_hash_lookup(const struct rte_hash *hash, const uint64_t *const *keys, uint32_t count,
		     uint64_t *hits, uintptr_t *values)
{
	return rte_hash_lookup_bulk_data(hash, (const void **)(uintptr_t)keys, count, hits,
					 (void **)values);
}
