/* 2. rows of avg_pool2d transformed for node_conv2d_1 */
static void lenet_step_2(const edgeline_run *run, int part, int parts)
{
    static const edgeline_winograd_rows layer = {
        .groups = 5,
        .terms = 6,
        .spans = 6,
        .span = 14,
        .v_span = 16,
        .x_row = 14,
        .x_span = 196,
        .x_group = 28,
        .input = {
            {4.0f, 0.0f, -5.0f, 0.0f, 1.0f, 0.0f},
            {0.0f, -4.0f, -4.0f, 1.0f, 1.0f, 0.0f},
            {0.0f, 4.0f, -4.0f, -1.0f, 1.0f, 0.0f},
            {0.0f, -2.0f, -1.0f, 2.0f, 1.0f, 0.0f},
            {0.0f, 2.0f, -1.0f, -2.0f, 1.0f, 0.0f},
            {0.0f, 4.0f, 0.0f, -5.0f, 0.0f, 1.0f},
        },
    };
    float *y = (float *)(run->arena + 12800);
    const float *x = (const float *)(run->arena + 24320);
    edgeline_winograd_rows_f32(&layer, x, y);
    (void)part; (void)parts;
}
