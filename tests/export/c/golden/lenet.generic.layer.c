/* 2. Conv + Sigmoid + AveragePool (node_conv2d_1): [1, 6, 14, 14] -> [1, 16, 5, 5] */
static void lenet_step_2(const edgeline_run *run, int part, int parts)
{
    static const edgeline_conv2d layer = {
        .channels = 16,
        .out_channels = 16,
        .rows = 5,
        .columns = 5,
        .taps = {{.count = 6, .stride = 196}, {.count = 5, .stride = 14}, {.count = 5, .stride = 1}},
        .in_row = 14,
        .in_column = 1,
        .out_row = 80,
        .out_column = 16,
        .blocks = 4,
        .pool = EDGELINE_AVERAGE_POOL,
        .pool_rows = 2,
        .pool_columns = 2,
        .activations = {{.kind = EDGELINE_SIGMOID}},
    };
    float *y = (float *)(run->arena + 4736);
    const float *x = (const float *)(run->arena);
    edgeline_conv2d_f32(&layer, x, lenet_w2_0, lenet_w2_1, y, part, parts);
}
