#include "flows.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <rte_acl.h>
#include <rte_errno.h>
#include <rte_meter.h>

enum {
	PROTOCOL,
	SOURCE,                        /* four words */
	DESTINATION = SOURCE + 4,      /* four words */
	SOURCE_PORT = DESTINATION + 4,
	DESTINATION_PORT,
	WORD,
	FIELDS,
};

_Static_assert(sizeof(struct dpdk_acl_key) == 44, "a key has holes");

RTE_ACL_RULE_DEF(rule, FIELDS);

static void field(struct rte_acl_config *config, uint32_t at, uint8_t type, uint8_t size,
		  uint8_t input, size_t offset)
{
	config->defs[at] = (struct rte_acl_field_def){
		.type = type,
		.size = size,
		.field_index = (uint8_t)at,
		.input_index = input,
		.offset = (uint32_t)offset,
	};
}

static void describe(struct rte_acl_config *config)
{
	*config = (struct rte_acl_config){ .num_categories = 1, .num_fields = FIELDS };
	field(config, PROTOCOL, RTE_ACL_FIELD_TYPE_BITMASK, 1, 0,
	      offsetof(struct dpdk_acl_key, protocol));
	for (uint32_t word = 0; word < 4; word++) {
		field(config, SOURCE + word, RTE_ACL_FIELD_TYPE_MASK, 4, (uint8_t)(1 + word),
		      offsetof(struct dpdk_acl_key, source) + 4 * word);
		field(config, DESTINATION + word, RTE_ACL_FIELD_TYPE_MASK, 4, (uint8_t)(5 + word),
		      offsetof(struct dpdk_acl_key, destination) + 4 * word);
	}
	/* Both ports are one input of four octets. */
	field(config, SOURCE_PORT, RTE_ACL_FIELD_TYPE_RANGE, 2, 9,
	      offsetof(struct dpdk_acl_key, source_port));
	field(config, DESTINATION_PORT, RTE_ACL_FIELD_TYPE_RANGE, 2, 9,
	      offsetof(struct dpdk_acl_key, destination_port));
	field(config, WORD, RTE_ACL_FIELD_TYPE_BITMASK, 4, 10, offsetof(struct dpdk_acl_key, word));
}

static void address(struct rte_acl_field *fields, const uint8_t octets[16], uint8_t length)
{
	for (uint32_t word = 0; word < 4; word++) {
		const uint8_t *at = octets + 4 * word;
		uint32_t before = 32 * word;

		fields[word].value.u32 = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 |
					 (uint32_t)at[2] << 8 | at[3];
		fields[word].mask_range.u32 = length <= before ? 0 :
					      length - before > 32 ? 32 : length - before;
	}
}

static struct rule translate(const struct dpdk_acl_rule *from, uint32_t at, uint32_t count)
{
	struct rule rule;

	memset(&rule, 0, sizeof(rule));
	rule.data.category_mask = 1;
	rule.data.priority = (int32_t)(count - at);
	rule.data.userdata = at + 1;
	rule.field[PROTOCOL].value.u8 = from->protocol;
	rule.field[PROTOCOL].mask_range.u8 = from->protocol_mask;
	address(&rule.field[SOURCE], from->source, from->source_length);
	address(&rule.field[DESTINATION], from->destination, from->destination_length);
	rule.field[SOURCE_PORT].value.u16 = from->source_port_first;
	rule.field[SOURCE_PORT].mask_range.u16 = from->source_port_last;
	rule.field[DESTINATION_PORT].value.u16 = from->destination_port_first;
	rule.field[DESTINATION_PORT].mask_range.u16 = from->destination_port_last;
	rule.field[WORD].value.u32 = from->word;
	rule.field[WORD].mask_range.u32 = from->word_mask;
	return rule;
}

struct rte_acl_ctx *dpdk_acl_build(const char *name, const struct dpdk_acl_rule *rules,
				   uint32_t count, int node, int *error)
{
	struct rte_acl_param param = {
		.name = name,
		.socket_id = node,
		.rule_size = RTE_ACL_RULE_SZ(FIELDS),
		.max_rule_num = count,
	};
	struct rte_acl_config config;
	struct rte_acl_ctx *acl;
	int status = 0;

	if (count == 0 || count > DPDK_ACL_MOST_RULES) {
		*error = EINVAL;
		return NULL;
	}
	/* It would hand that one out a second time. */
	if (rte_acl_find_existing(name) != NULL) {
		*error = EEXIST;
		return NULL;
	}
	rte_errno = ENOMEM;
	acl = rte_acl_create(&param);
	if (acl == NULL) {
		*error = rte_errno;
		return NULL;
	}
	for (uint32_t at = 0; at < count && status == 0; at++) {
		struct rule rule = translate(&rules[at], at, count);

		status = rte_acl_add_rules(acl, (const struct rte_acl_rule *)&rule, 1);
	}
	if (status == 0) {
		describe(&config);
		status = rte_acl_build(acl, &config);
	}
	if (status != 0) {
		*error = -status;
		rte_acl_free(acl);
		return NULL;
	}
	return acl;
}

void dpdk_acl_free(struct rte_acl_ctx *acl)
{
	rte_acl_free(acl);
}

int dpdk_acl_classify(const struct rte_acl_ctx *acl, const struct dpdk_acl_key *keys,
		      uint32_t *rules, uint32_t count)
{
	const uint8_t *at[DPDK_ACL_MOST_KEYS];

	if (count > DPDK_ACL_MOST_KEYS)
		return -EINVAL;
	for (uint32_t key = 0; key < count; key++)
		at[key] = (const uint8_t *)&keys[key];
	return rte_acl_classify(acl, at, rules, count, 1);
}

#define SAME_PLACE(ours, theirs, field, its)                                                       \
	_Static_assert(offsetof(struct ours, field) == offsetof(struct theirs, its),               \
		       #its " of " #theirs " is elsewhere")

_Static_assert(sizeof(struct dpdk_meter) == sizeof(struct rte_meter_trtcm), "a meter differs");
SAME_PLACE(dpdk_meter, rte_meter_trtcm, committed_time, time_tc);
SAME_PLACE(dpdk_meter, rte_meter_trtcm, other_time, time_tp);
SAME_PLACE(dpdk_meter, rte_meter_trtcm, committed_tokens, tc);
SAME_PLACE(dpdk_meter, rte_meter_trtcm, other_tokens, tp);
_Static_assert(sizeof(struct dpdk_meter) == sizeof(struct rte_meter_trtcm_rfc4115),
	       "a meter differs");
SAME_PLACE(dpdk_meter, rte_meter_trtcm_rfc4115, committed_time, time_tc);
SAME_PLACE(dpdk_meter, rte_meter_trtcm_rfc4115, other_time, time_te);
SAME_PLACE(dpdk_meter, rte_meter_trtcm_rfc4115, committed_tokens, tc);
SAME_PLACE(dpdk_meter, rte_meter_trtcm_rfc4115, other_tokens, te);
_Static_assert(sizeof(struct dpdk_meter_profile) == sizeof(struct rte_meter_trtcm_profile),
	       "a profile differs");
SAME_PLACE(dpdk_meter_profile, rte_meter_trtcm_profile, committed_burst, cbs);
SAME_PLACE(dpdk_meter_profile, rte_meter_trtcm_profile, other_burst, pbs);
SAME_PLACE(dpdk_meter_profile, rte_meter_trtcm_profile, committed_period, cir_period);
SAME_PLACE(dpdk_meter_profile, rte_meter_trtcm_profile, committed_octets_per_period, cir_bytes_per_period);
SAME_PLACE(dpdk_meter_profile, rte_meter_trtcm_profile, other_period, pir_period);
SAME_PLACE(dpdk_meter_profile, rte_meter_trtcm_profile, other_octets_per_period, pir_bytes_per_period);
_Static_assert(sizeof(struct dpdk_meter_profile) == sizeof(struct rte_meter_trtcm_rfc4115_profile),
	       "a profile differs");
SAME_PLACE(dpdk_meter_profile, rte_meter_trtcm_rfc4115_profile, committed_burst, cbs);
SAME_PLACE(dpdk_meter_profile, rte_meter_trtcm_rfc4115_profile, other_burst, ebs);
SAME_PLACE(dpdk_meter_profile, rte_meter_trtcm_rfc4115_profile, committed_period, cir_period);
SAME_PLACE(dpdk_meter_profile, rte_meter_trtcm_rfc4115_profile, committed_octets_per_period, cir_bytes_per_period);
SAME_PLACE(dpdk_meter_profile, rte_meter_trtcm_rfc4115_profile, other_period, eir_period);
SAME_PLACE(dpdk_meter_profile, rte_meter_trtcm_rfc4115_profile, other_octets_per_period, eir_bytes_per_period);

uint32_t dpdk_meter_check(uint32_t kind, struct dpdk_meter *meter,
			  const struct dpdk_meter_profile *profile, uint64_t now, uint32_t octets,
			  uint32_t colour)
{
	/*
	 * Blind to colours is aware of green ones: one function does for both. It only reads
	 * the profile, though 22.11 does not say so.
	 */
	if (kind == DPDK_METER_RFC2698)
		return rte_meter_trtcm_color_aware_check(
			(struct rte_meter_trtcm *)meter, (struct rte_meter_trtcm_profile *)profile,
			now, octets, (enum rte_color)colour);
	return rte_meter_trtcm_rfc4115_color_aware_check(
		(struct rte_meter_trtcm_rfc4115 *)meter,
		(struct rte_meter_trtcm_rfc4115_profile *)profile, now, octets,
		(enum rte_color)colour);
}
