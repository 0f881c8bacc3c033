/* What bindgen reads. build.rs lists the few names that are taken from it. */
#include <rte_config.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "flows.h"
#include "peers.h"
#include "shims.h"
