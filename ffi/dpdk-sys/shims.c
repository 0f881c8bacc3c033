#include "shims.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/*
 * Rust sees struct dpdk_mbuf, DPDK sees struct rte_mbuf, and they are the same
 * octets. bindgen's own assertions tie Rust to dpdk_mbuf; these tie dpdk_mbuf to
 * the rte_mbuf of the DPDK that is installed.
 */
#define SAME_FIELD(ours, theirs)                                                                   \
	_Static_assert(offsetof(struct dpdk_mbuf, ours) == offsetof(struct rte_mbuf, theirs),      \
		       "dpdk_mbuf." #ours " is not where rte_mbuf." #theirs " is");                \
	_Static_assert(sizeof(((struct dpdk_mbuf *)0)->ours) ==                                    \
			       sizeof(((struct rte_mbuf *)0)->theirs),                             \
		       "dpdk_mbuf." #ours " has not the size of rte_mbuf." #theirs)

SAME_FIELD(buf_addr, buf_addr);
SAME_FIELD(data_off, data_off);
SAME_FIELD(refcnt, refcnt);
SAME_FIELD(nb_segs, nb_segs);
SAME_FIELD(port, port);
SAME_FIELD(ol_flags, ol_flags);
SAME_FIELD(packet_type, packet_type);
SAME_FIELD(pkt_len, pkt_len);
SAME_FIELD(data_len, data_len);
SAME_FIELD(vlan_tci, vlan_tci);
SAME_FIELD(rss, hash.rss);
SAME_FIELD(vlan_tci_outer, vlan_tci_outer);
SAME_FIELD(buf_len, buf_len);
SAME_FIELD(pool, pool);
_Static_assert(sizeof(struct dpdk_mbuf) == sizeof(struct rte_mbuf), "rte_mbuf has another size");
_Static_assert(_Alignof(struct dpdk_mbuf) == _Alignof(struct rte_mbuf),
	       "rte_mbuf has another alignment");
_Static_assert(RTE_PKTMBUF_HEADROOM >= 128, "tunnel headers need 128 octets of headroom");

_Static_assert(DPDK_MBUF_RX_RSS_HASH == RTE_MBUF_F_RX_RSS_HASH, "the RSS flag is another bit");

int dpdk_errno(void)
{
	return rte_errno;
}

const char *dpdk_version(void)
{
	return rte_version();
}

bool dpdk_has_lcore_id(void)
{
	return rte_lcore_id() != LCORE_ID_ANY;
}

uint64_t dpdk_cycles(void)
{
	return rte_rdtsc();
}

struct dpdk_mbuf *dpdk_mbuf_alloc(struct rte_mempool *pool)
{
	return (struct dpdk_mbuf *)rte_pktmbuf_alloc(pool);
}

int dpdk_mbuf_alloc_bulk(struct rte_mempool *pool, struct dpdk_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, (struct rte_mbuf **)mbufs, count);
}

void dpdk_mbuf_free(struct dpdk_mbuf *mbuf)
{
	rte_pktmbuf_free((struct rte_mbuf *)mbuf);
}

void dpdk_mbuf_free_bulk(struct dpdk_mbuf **mbufs, unsigned int count)
{
	rte_pktmbuf_free_bulk((struct rte_mbuf **)mbufs, count);
}

uint32_t dpdk_mempool_size(const struct rte_mempool *pool)
{
	return pool->size;
}

uint16_t dpdk_rx_burst(uint16_t port, uint16_t queue, struct dpdk_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, (struct rte_mbuf **)mbufs, count);
}

uint16_t dpdk_tx_burst(uint16_t port, uint16_t queue, struct dpdk_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, (struct rte_mbuf **)mbufs, count);
}

int dpdk_port_find(const char *device, uint16_t *port)
{
	struct rte_dev_iterator iterator;
	uint16_t found;
	int status;

	/* A virtual device's port has the device's name; so has most hardware's. */
	if (rte_eth_dev_get_port_by_name(device, port) == 0)
		return 0;
	status = rte_eth_iterator_init(&iterator, device);
	if (status != 0)
		return status;
	found = rte_eth_iterator_next(&iterator);
	if (found == RTE_MAX_ETHPORTS)
		return -ENODEV;
	rte_eth_iterator_cleanup(&iterator);
	*port = found;
	return 0;
}

int dpdk_port_info(uint16_t port, struct dpdk_port_info *info)
{
	struct rte_eth_dev_info theirs;
	int status = rte_eth_dev_info_get(port, &theirs);

	if (status != 0)
		return status;
	*info = (struct dpdk_port_info){
		.driver_name = theirs.driver_name,
		.min_rx_bufsize = theirs.min_rx_bufsize,
		.max_rx_pktlen = theirs.max_rx_pktlen,
		.min_mtu = theirs.min_mtu,
		.max_mtu = theirs.max_mtu,
		.max_rx_queues = theirs.max_rx_queues,
		.max_tx_queues = theirs.max_tx_queues,
		.min_rx_descriptors = theirs.rx_desc_lim.nb_min,
		.max_rx_descriptors = theirs.rx_desc_lim.nb_max,
		.min_tx_descriptors = theirs.tx_desc_lim.nb_min,
		.max_tx_descriptors = theirs.tx_desc_lim.nb_max,
		.rss_fields = theirs.flow_type_rss_offloads,
		.if_index = theirs.if_index,
		.numa_node = rte_eth_dev_socket_id(port),
	};
	return 0;
}

uint64_t dpdk_rss_fields(void)
{
	return RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP;
}

int dpdk_port_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, uint64_t rss_fields)
{
	struct rte_eth_conf conf;
	struct rte_eth_dev_info info;
	int status = rte_eth_dev_info_get(port, &info);

	if (status != 0)
		return status;
	memset(&conf, 0, sizeof(conf));
	if (rss_fields != 0) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = rss_fields & info.flow_type_rss_offloads;
		conf.rxmode.offloads = info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_RSS_HASH;
	}
	return rte_eth_dev_configure(port, rx_queues, tx_queues, &conf);
}

int dpdk_port_rx_queue(uint16_t port, uint16_t queue, uint16_t descriptors, struct rte_mempool *pool)
{
	return rte_eth_rx_queue_setup(port, queue, descriptors, rte_eth_dev_socket_id(port), NULL,
				      pool);
}

int dpdk_port_tx_queue(uint16_t port, uint16_t queue, uint16_t descriptors)
{
	return rte_eth_tx_queue_setup(port, queue, descriptors, rte_eth_dev_socket_id(port), NULL);
}

int dpdk_port_link(uint16_t port, struct dpdk_link *link)
{
	struct rte_eth_link theirs;
	int status;

	memset(&theirs, 0, sizeof(theirs));
	status = rte_eth_link_get_nowait(port, &theirs);
	if (status != 0)
		return status;
	*link = (struct dpdk_link){
		.speed_mbps = theirs.link_speed,
		.up = theirs.link_status == RTE_ETH_LINK_UP,
		.full_duplex = theirs.link_duplex == RTE_ETH_LINK_FULL_DUPLEX,
	};
	return 0;
}

int dpdk_port_stats(uint16_t port, struct dpdk_port_stats *stats)
{
	struct rte_eth_stats theirs;
	int status = rte_eth_stats_get(port, &theirs);

	if (status != 0)
		return status;
	*stats = (struct dpdk_port_stats){
		.rx_packets = theirs.ipackets,
		.tx_packets = theirs.opackets,
		.rx_octets = theirs.ibytes,
		.tx_octets = theirs.obytes,
		.rx_missed = theirs.imissed,
		.rx_errors = theirs.ierrors,
		.tx_errors = theirs.oerrors,
		.rx_no_mbuf = theirs.rx_nombuf,
	};
	return 0;
}

int dpdk_port_mac(uint16_t port, uint8_t mac[6])
{
	struct rte_ether_addr address;
	int status = rte_eth_macaddr_get(port, &address);

	if (status == 0)
		memcpy(mac, address.addr_bytes, sizeof(address.addr_bytes));
	return status;
}

int dpdk_port_set_mac(uint16_t port, const uint8_t mac[6])
{
	struct rte_ether_addr address;

	memcpy(address.addr_bytes, mac, sizeof(address.addr_bytes));
	return rte_eth_dev_default_mac_addr_set(port, &address);
}

int dpdk_port_close(uint16_t port, bool detach)
{
	struct rte_eth_dev_info info;
	int status, first_failure;

	/* The device is found through the port, so before the port is gone. */
	first_failure = rte_eth_dev_info_get(port, &info);
	if (first_failure != 0)
		info.device = NULL;
	status = rte_eth_dev_stop(port);
	if (first_failure == 0)
		first_failure = status;
	status = rte_eth_dev_close(port);
	if (first_failure == 0)
		first_failure = status;
	if (detach && info.device != NULL) {
		status = rte_dev_remove(info.device);
		if (first_failure == 0)
			first_failure = status;
	}
	return first_failure;
}
