/* A libdcmi.so without a driver: chips are what the tests make them, by the stub_ functions.
   Structures are spelled out anew here, so that a wrong one in the agent shows.
   -DOLD leaves out what old drivers do not have. */

#include <string.h>

#define MAX_CHIPS 32
#define MAX_VDEVS 16
#define MAX_TROUBLES 16
#define NOT_SUPPORTED (-8255)
#define INVALID (-8001)
#define NO_DEVICE (-8008)

struct chip_info { unsigned char type[32], name[32], ver[32]; unsigned int aicore_cnt; };
struct die_id { unsigned int soc_die[5]; };
struct pcie_info {
    unsigned int venderid, subvenderid, deviceid, subdeviceid;
    int domain;
    unsigned int bus, device, function;
    unsigned char reserve[32];
};
struct proc_mem { int proc_id; unsigned long usage; };
struct base_resource {
    unsigned long long token, token_max, task_timeout;
    unsigned int vfg_id;
    unsigned char vip_mode, reserved[31];
};
struct computing_resource {
    float aic, aiv;
    unsigned short dsa, rtsq, acsq, cdqm, c_core, ffts, sdma, pcie_dma;
    unsigned long long memory_size;
    unsigned int event_id, notify_id, stream_id, model_id;
    unsigned short topic_schedule_aicpu, host_ctrl_cpu, host_aicpu, device_aicpu, slot;
    unsigned int vdev_aicore_utilization;
    unsigned long long vdev_memory_total, vdev_memory_free;
    unsigned char reserved[12];
};
struct media_resource { float jpegd, jpege, vpc, vdec, pngd, venc; unsigned char reserved[32]; };
struct vdev_query_info {
    char name[16];
    unsigned int status, is_container_used, vfid, vfg_id;
    unsigned long long container_id;
    struct base_resource base;
    struct computing_resource computing;
    struct media_resource media;
};
struct vdev_query { unsigned int vdev_id; struct vdev_query_info info; };
struct soc_total {
    unsigned int vdev_num, vdev_id[32], vfg_num, vfg_bitmap;
    struct base_resource base;
    struct computing_resource computing;
    struct media_resource media;
};

struct vdev { unsigned int id, percent; float aicores; char name[16]; };
struct chip {
    int card, number, logic, unit;
    unsigned int phy, aicores, die[5], bus, npu_percent, core_percent;
    int knows_npu_percent, pids[64], pid_count, vdev_count;
    char name[32];
    struct vdev vdevs[MAX_VDEVS];
};
struct trouble { char function[64]; int card, chip, code, times; };

static struct chip chips[MAX_CHIPS];
static struct trouble troubles[MAX_TROUBLES];
static int chip_count, trouble_count, is_initialised, calls;

/* What the tests turn */

void stub_reset(void)
{
    memset(chips, 0, sizeof chips);
    memset(troubles, 0, sizeof troubles);
    chip_count = trouble_count = is_initialised = calls = 0;
}

void stub_add(int card, int number, int logic, unsigned int phy, const char *name,
              unsigned int die, unsigned int bus, unsigned int aicores)
{
    struct chip *chip = &chips[chip_count++];
    memset(chip, 0, sizeof *chip);
    chip->card = card, chip->number = number, chip->logic = logic, chip->phy = phy;
    chip->aicores = aicores, chip->bus = bus, chip->knows_npu_percent = 1;
    for (int i = 0; die && i < 5; i++) chip->die[i] = die + i;
    strncpy(chip->name, name, sizeof chip->name - 1);
}

static struct chip *find(int card, int number)
{
    for (int i = 0; i < chip_count; i++)
        if (chips[i].card == card && chips[i].number == number) return &chips[i];
    return 0;
}

void stub_percent(int card, int number, int npu, int core)
{
    struct chip *chip = find(card, number);
    chip->knows_npu_percent = npu >= 0;
    chip->npu_percent = npu, chip->core_percent = core;
}

void stub_unit(int card, int number, int unit) { find(card, number)->unit = unit; }

void stub_vdev(int card, int number, unsigned int id, const char *name, unsigned int percent)
{
    struct chip *chip = find(card, number);
    struct vdev *vdev = &chip->vdevs[chip->vdev_count++];
    vdev->id = id, vdev->percent = percent;
    strncpy(vdev->name, name, sizeof vdev->name - 1);
}

void stub_no_vdevs(int card, int number) { find(card, number)->vdev_count = 0; }

void stub_process(int card, int number, int pid)
{
    struct chip *chip = find(card, number);
    chip->pids[chip->pid_count++] = pid;
}

/* The next calls of this function fail; chip -1 = of any, times -1 = for ever, 0 = no more. */
void stub_fail(const char *function, int card, int number, int code, int times)
{
    struct trouble *trouble = 0;
    for (int i = 0; i < trouble_count; i++)
        if (!strcmp(troubles[i].function, function)) trouble = &troubles[i];
    if (!trouble) trouble = &troubles[trouble_count++];
    strncpy(trouble->function, function, sizeof trouble->function - 1);
    trouble->card = card, trouble->chip = number, trouble->code = code, trouble->times = times;
}

int stub_calls(void) { return calls; }

static int begin(const char *function, int card, int number)
{
    calls++;
    for (int i = 0; i < trouble_count; i++) {
        struct trouble *trouble = &troubles[i];
        int is_meant = trouble->card < 0 || (trouble->card == card && trouble->chip == number);
        if (strcmp(trouble->function, function) || !is_meant || !trouble->times) continue;
        if (trouble->times > 0) trouble->times--;
        return trouble->code;
    }
    if (!is_initialised) return -99997;
    return card < 0 || number < 0 || find(card, number) ? 0 : NO_DEVICE;
}

#define BEGIN(card, number) \
    do { int code = begin(__func__, card, number); if (code) return code; } while (0)

/* What the agent calls */

int dcmi_init(void)
{
    is_initialised = 1;
    BEGIN(-1, -1);
    return 0;
}

int dcmi_get_card_list(int *count, int *cards, int room)
{
    BEGIN(-1, -1);
    *count = 0;
    for (int i = 0; i < chip_count && *count < room; i++)
        if (!*count || cards[*count - 1] != chips[i].card) cards[(*count)++] = chips[i].card;
    return 0;
}

int dcmi_get_device_id_in_card(int card, int *count, int *mcu, int *cpu)
{
    int code = begin(__func__, card, -1);
    if (code) return code;
    *count = 0, *mcu = -1, *cpu = -1;
    for (int i = 0; i < chip_count; i++) *count += chips[i].card == card;
    return *count ? 0 : NO_DEVICE;
}

int dcmi_get_device_type(int card, int number, int *unit)
{
    BEGIN(card, number);
    *unit = find(card, number)->unit;
    return 0;
}

int dcmi_get_device_chip_info(int card, int number, struct chip_info *info)
{
    BEGIN(card, number);
    memset(info, 0, sizeof *info);
    strcpy((char *)info->type, "Ascend");
    strcpy((char *)info->name, find(card, number)->name);
    info->aicore_cnt = find(card, number)->aicores;
    return 0;
}

int dcmi_get_device_logic_id(int *logic, int card, int number)
{
    BEGIN(card, number);
    *logic = find(card, number)->logic;
    return 0;
}

int dcmi_get_device_phyid_from_logicid(unsigned int logic, unsigned int *phy)
{
    BEGIN(-1, -1);
    for (int i = 0; i < chip_count; i++)
        if ((unsigned int)chips[i].logic == logic) { *phy = chips[i].phy; return 0; }
    return INVALID;
}

int dcmi_get_device_utilization_rate(int card, int number, int type, unsigned int *rate)
{
    BEGIN(card, number);
    struct chip *chip = find(card, number);
    if (type == 13 && !chip->knows_npu_percent) return INVALID;
    if (type != 13 && type != 2) return INVALID;
    *rate = chip->vdev_count ? 0 : type == 13 ? chip->npu_percent : chip->core_percent;
    return 0;
}

int dcmi_get_device_resource_info(int card, int number, struct proc_mem *processes, int *count)
{
    BEGIN(card, number);
    struct chip *chip = find(card, number);
    *count = chip->pid_count;
    for (int i = 0; i < chip->pid_count; i++)
        processes[i].proc_id = chip->pids[i], processes[i].usage = 1UL << 40;
    return 0;
}

#ifndef OLD
int dcmi_get_device_die_v2(int card, int number, int type, struct die_id *die)
{
    BEGIN(card, number);
    if (type != 1) return INVALID;
    memcpy(die->soc_die, find(card, number)->die, sizeof die->soc_die);
    return 0;
}

int dcmi_get_device_pcie_info_v2(int card, int number, struct pcie_info *info)
{
    BEGIN(card, number);
    memset(info, 0, sizeof *info);
    info->bus = find(card, number)->bus;
    return 0;
}

static int fill_total(struct chip *chip, struct soc_total *total)
{
    memset(total, 0, sizeof *total);
    total->vdev_num = chip->vdev_count;
    for (int i = 0; i < chip->vdev_count; i++) total->vdev_id[i] = chip->vdevs[i].id;
    total->computing.aic = chip->aicores;
    return 0;
}

static int fill_vdev(struct chip *chip, struct vdev_query *query, unsigned int command)
{
    for (int i = 0; i < chip->vdev_count; i++) {
        struct vdev *vdev = &chip->vdevs[i];
        if (vdev->id != query->vdev_id) continue;
        memset(&query->info, 0, sizeof query->info);
        memcpy(query->info.name, vdev->name, sizeof query->info.name);
        if (command == 5) query->info.computing.vdev_aicore_utilization = vdev->percent;
        return 0;
    }
    return INVALID;
}

int dcmi_get_device_info(int card, int number, int main_command, unsigned int command,
                         void *data, unsigned int *size)
{
    BEGIN(card, number);
    struct chip *chip = find(card, number);
    if (main_command != 52) return INVALID;
    if (command == 1) return *size == sizeof(struct soc_total) ? fill_total(chip, data) : INVALID;
    if (command != 0 && command != 5) return NOT_SUPPORTED;
    if (command == 5) {
        int code = begin("activity", card, number);
        if (code) return code;
    }
    return *size == sizeof(struct vdev_query) ? fill_vdev(chip, data, command) : INVALID;
}
#endif
