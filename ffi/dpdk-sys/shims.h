/*
 * Real functions in front of DPDK's inline ones, and plain structures in front
 * of the ones whose layout changes between releases.
 *
 * A call costs a few cycles, so a shim stands only where it is called once per
 * burst, once per dropped packet, or on the control path. What workers touch per
 * packet is `struct dpdk_mbuf`, whose layout shims.c proves equal to rte_mbuf's.
 */
#ifndef DPDK_SHIMS_H
#define DPDK_SHIMS_H

#include <stdbool.h>
#include <stdint.h>

struct rte_mempool;

/*
 * The fields of `struct rte_mbuf` that Rust reads and writes, where rte_mbuf has
 * them. rte_mbuf itself has bit fields, anonymous unions and zero-sized markers
 * that differ between DPDK releases and that bindgen renders badly.
 */
struct dpdk_mbuf {
	void *buf_addr;        /* start of the buffer, headroom included */
	uint64_t iova_or_next; /* what it is depends on how DPDK was built */
	uint16_t data_off;     /* octets from buf_addr to the packet */
	uint16_t refcnt;
	uint16_t nb_segs;
	uint16_t port;
	uint64_t ol_flags;
	uint32_t packet_type;
	uint32_t pkt_len;  /* octets in all segments */
	uint16_t data_len; /* octets in this segment */
	uint16_t vlan_tci;
	uint32_t rss; /* valid if ol_flags has DPDK_MBUF_RX_RSS_HASH */
	uint32_t hash_high;
	uint16_t vlan_tci_outer;
	uint16_t buf_len; /* octets in the buffer, headroom included */
	struct rte_mempool *pool;
	uint8_t second_line[64];
} __attribute__((aligned(64)));

/* What a driver says of its port. */
struct dpdk_port_info {
	const char *driver_name; /* lives until the device is removed */
	uint32_t min_rx_bufsize;
	uint32_t max_rx_pktlen;
	uint16_t min_mtu;
	uint16_t max_mtu;
	uint16_t max_rx_queues;
	uint16_t max_tx_queues;
	uint16_t min_rx_descriptors;
	uint16_t max_rx_descriptors;
	uint16_t min_tx_descriptors;
	uint16_t max_tx_descriptors;
	uint64_t rss_fields; /* RTE_ETH_RSS_* it can hash over; zero: no RSS */
	uint32_t if_index;   /* the kernel interface it sits on, or zero */
	int32_t numa_node;   /* or -1 */
};

struct dpdk_link {
	uint32_t speed_mbps; /* UINT32_MAX: unknown */
	bool up;
	bool full_duplex;
};

struct dpdk_port_stats {
	uint64_t rx_packets;
	uint64_t tx_packets;
	uint64_t rx_octets;
	uint64_t tx_octets;
	uint64_t rx_missed;
	uint64_t rx_errors;
	uint64_t tx_errors;
	uint64_t rx_no_mbuf;
};

/* `ol_flags` bit: `rss` holds the hash that the device computed. */
#define DPDK_MBUF_RX_RSS_HASH 2

/* Process and thread. */
int dpdk_errno(void);
const char *dpdk_version(void); /* static */
bool dpdk_has_lcore_id(void);
uint64_t dpdk_cycles(void);

/* Buffers. */
struct dpdk_mbuf *dpdk_mbuf_alloc(struct rte_mempool *pool);
int dpdk_mbuf_alloc_bulk(struct rte_mempool *pool, struct dpdk_mbuf **mbufs, unsigned int count);
void dpdk_mbuf_free(struct dpdk_mbuf *mbuf);
void dpdk_mbuf_free_bulk(struct dpdk_mbuf **mbufs, unsigned int count);
uint32_t dpdk_mempool_size(const struct rte_mempool *pool);

/* Bursts. */
uint16_t dpdk_rx_burst(uint16_t port, uint16_t queue, struct dpdk_mbuf **mbufs, uint16_t count);
uint16_t dpdk_tx_burst(uint16_t port, uint16_t queue, struct dpdk_mbuf **mbufs, uint16_t count);

/* Ports. All return 0 or a negative errno. */
int dpdk_port_find(const char *device, uint16_t *port);
int dpdk_port_info(uint16_t port, struct dpdk_port_info *info);
int dpdk_port_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, uint64_t rss_fields);
int dpdk_port_rx_queue(uint16_t port, uint16_t queue, uint16_t descriptors, struct rte_mempool *pool);
int dpdk_port_tx_queue(uint16_t port, uint16_t queue, uint16_t descriptors);
int dpdk_port_link(uint16_t port, struct dpdk_link *link);
int dpdk_port_stats(uint16_t port, struct dpdk_port_stats *stats);
int dpdk_port_mac(uint16_t port, uint8_t mac[6]);
int dpdk_port_set_mac(uint16_t port, const uint8_t mac[6]);
/* Stops and closes the port; with `detach`, takes its device off the bus too. */
int dpdk_port_close(uint16_t port, bool detach);

/* Hash fields asked for when a port has several receive queues. */
uint64_t dpdk_rss_fields(void);

#endif
